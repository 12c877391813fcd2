"""Streaming means and variances over passes in float64, and their Monte Carlo errors.

Sums and sums of squares are kept for up to 16 groups of passes. Any function of means and
variances can then be recomputed without each group, and the spread of these values estimates its
standard error (the delete-group jackknife). Memory does not grow with the number of passes; fewer
than 32 stratified ones are kept, because the variance is read off passes that are independent.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups, column, plus
from mcdrop._engine.student import widening
from mcdrop._masks.grid import SIDE, independent_sets
from mcdrop._masks.stratified import STRATUM

__all__ = ["Moments", "accumulation_dtype", "jackknife"]

_GROUPS = 16
# Beyond so many elements per pass, fewer groups are kept, to bound the memory.
_LARGE = 2**20
_FEWEST_GROUPS = 4

# Variance of the mean over a stratum as a share of that over as many independent passes: the
# largest of those measured on trained networks, which lie between 0.02 and 0.4.
_LARGEST_USUAL_SHARE = 0.4
# Pairs within strata tell how pairs of different ones differ from independent ones if these are
# at most so many times as correlated; else all of the output is taken to be linear in the masks.
_MOST_EXTRAPOLATED = 0.5
# Torch may have another default device.
_HOST = torch.zeros(0, dtype=torch.float64, device="cpu")


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices without float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class Moments:
    """Mean and variance of the passes so far, in total and by group.

    Values are centered on the mean of the first chunk, which avoids cancellation where the spread
    is small against the mean.

    Counts stay on the host, where they are known, so that no device is waited for.

    Args:
        groups: Groups of passes for the jackknife; by default single passes.
    """

    def __init__(self, groups: PassGroups | None = None) -> None:
        self.count = 0
        self._groups = groups or PassGroups(None)
        self._center: Tensor | None = None
        self._counts = self._strata_counts = _HOST
        self._sums = self._squares = self._strata_sums = _HOST
        self._kept: list[Tensor] = []
        self._left: tuple[Tensor, Tensor, Tensor] | None = None
        self._mean: Tensor | None = None
        self._mean_variance: Tensor | None = None
        self._from_strata: Tensor | None = None
        self._square_about_mean: Tensor | None = None
        self._totals: dict[int, Tensor] = {}

    @property
    def on_grid(self) -> bool:
        """Whether the passes lie on a grid."""
        return self._groups.on_grid

    def update(self, chunk: Tensor) -> None:
        """Add passes, shape (s, ...)."""
        values = chunk.to(accumulation_dtype(chunk.device))
        if self._groups.on_grid:
            self._kept.append(chunk)
        if self._center is None:
            self._center = values.mean(dim=0)
            numel = max(1, self._center.numel())
            n_groups = max(_FEWEST_GROUPS, min(_GROUPS, _GROUPS * _LARGE // numel))
            self._counts = _HOST.new_zeros(n_groups)
            self._strata_counts = _HOST.new_zeros(self._groups.few_strata)
        shape, count = values.shape[1:], len(values)
        centered = (values - self._center).flatten(1)
        # Matrices and counts on the host are made once for so many passes.
        member = self._groups.of(self.count, count, len(self._counts), values)
        self._counts += self._groups.of(self.count, count, len(self._counts), _HOST).sum(dim=1)
        self._sums = plus(self._sums, (member @ centered).view(-1, *shape))
        if self._groups.few_strata:
            strata = self._groups.strata(self.count, count, values)
            self._strata_counts += self._groups.strata(self.count, count, _HOST).sum(dim=1)
            self._strata_sums = plus(self._strata_sums, (strata @ centered).view(-1, *shape))
        self._squares = plus(self._squares, (member @ centered.square_()).view(-1, *shape))
        self.count += count
        self._totals.clear()
        self._left = self._mean = self._mean_variance = self._square_about_mean = None
        self._from_strata = None

    @property
    def mean(self) -> Tensor:
        """Mean over passes."""
        if self._mean is None:
            self._mean = self._base() + self._total(self._sums) / self.count
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over passes: divided by S - 1 where they are independent.

        E[mean square about the sample mean] = Var(x) - Var(sample mean). For independent passes
        Var(sample mean) = Var(x) / S. For two strata or more it is estimated from their means, less
        what the correlation of strata adds. For fewer stratified passes it is the mean over the
        pairs of independent ones of half their squared difference.
        """
        if self._groups.on_grid:
            return self._variance_on_lines()
        if self._strata_tell():
            return self._variance_from_strata()
        return self._plain_variance() / (1 - self._share_of_mean())

    @property
    def mean_square(self) -> Tensor:
        """Mean square about the mean of the passes: divided by S."""
        return self._plain_variance()

    @property
    def variance_of_mean(self) -> Tensor:
        """Unbiased squared standard error of `mean`, as in `variance`; noisy for few strata."""
        if self._groups.on_grid:
            return self._variance_on_lines() - self._plain_variance()
        if self._strata_tell():
            return self._variance_from_strata() - self._plain_variance()
        if not self._groups.stratified:
            return self._plain_variance() / max(1, self.count - 1)
        share = self._share_of_mean()
        return self._plain_variance() * (share / (1 - share))

    @property
    def nonlinear_share(self) -> Tensor:
        """Var(mean) over that of independent passes, in [0.4, 1]; 1 for independent passes.

        Stratified passes leave only the part that is not linear in the masks in the error of the
        mean. The estimate is noisy, so it is not taken below the largest usual share, which stands
        in for it where fewer than 32 passes ran.
        """
        if self._groups.on_grid:
            share = torch.full_like(self._base(), self.count * self._share_of_mean())
            return share.clamp(_LARGEST_USUAL_SHARE, 1)
        tiny = torch.finfo(self._sums.dtype).tiny
        share = self.count * self.variance_of_mean / self.variance.clamp_min(tiny)
        return share.clamp(_LARGEST_USUAL_SHARE, 1)

    @property
    def mean_error(self) -> Tensor:
        """Standard error of `mean`, widened by Student's t so that 1.96 of it cover 95 %.

        For fewer than 4 strata it is that of independent passes, an upper bound.
        """
        independent = (self._plain_variance() / max(1, self.count - 1)).sqrt()
        if not self._groups.by_stratum or self._used() < 2:
            return independent * widening(self.count - 1)
        error = self._variance_of_mean().sqrt() * widening(self._used() - 1)
        # With few strata the estimate is noisy; cap it at the error of independent passes.
        return torch.minimum(error, independent)

    def powers_of_mean(self) -> tuple[Tensor, Tensor]:
        """Return unbiased estimates of the squared and the cubed mean, of passes on a grid.

        They are means over pairs and triples of independent passes of the product of their values.
        Two passes know no cube: theirs is that of values without a third central moment.
        """
        kept, mean = self._passes(), self.mean
        squares, cubes, n_pairs, n_triples = torch.zeros_like(mean), torch.zeros_like(mean), 0, 0
        for line in independent_sets(self.count):
            x = kept[list(line)].to(mean)
            # Elementary symmetric polynomials by Newton's identities.
            total, of_squares = x.sum(dim=0), x.square().sum(dim=0)
            squares += (total.square() - of_squares) / 2
            cubes += (total**3 - 3 * total * of_squares + 2 * (x**3).sum(dim=0)) / 6
            n_pairs, n_triples = n_pairs + comb(len(line), 2), n_triples + comb(len(line), 3)
        square = squares / n_pairs
        return square, cubes / n_triples if n_triples else 3 * mean * square - 2 * mean**3

    def without_each(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the leave-one-group-out counts (G,) on the host, means and variances (G, ...).

        These variances are divided by the count, not by the count minus 1.
        """
        if self._left is not None:
            return self._left
        used = slice(0, self._used())
        counts = self.count - self._counts[used]
        share = column(counts, self._sums)
        means = (self._total(self._sums) - self._sums[used]) / share
        variances = (self._total(self._squares) - self._squares[used]) / share - means.square()
        self._left = counts, self._base() + means, variances.clamp_min_(0)
        return self._left

    def rows(self, rows: Tensor) -> Moments:
        """Return the moments of some rows.

        Args:
            rows: Indices along dimension 1 of the chunks.
        """
        part = Moments(self._groups)
        part.count, part._counts = self.count, self._counts.clone()
        part._center = self._base()[rows]
        part._sums, part._squares = self._sums[:, rows], self._squares[:, rows]
        part._strata_counts = self._strata_counts.clone()
        if self._groups.few_strata:
            part._strata_sums = self._strata_sums[:, rows]
        part._kept = [chunk[:, rows] for chunk in self._kept]
        return part

    def _base(self) -> Tensor:
        if self._center is None:
            raise RuntimeError("Moments: no passes have been added")
        return self._center

    def _passes(self) -> Tensor:
        """Return the passes on a grid, (S, ...), as they came."""
        self._kept = [torch.cat(self._kept)]
        return self._kept[0]

    def _variance_on_lines(self) -> Tensor:
        """Average (x - x')^2 / 2 over the pairs of independent passes on a grid."""
        kept, halves, n_pairs = self._passes(), torch.zeros_like(self._base()), 0
        for line in independent_sets(self.count):
            x = kept[list(line)].to(halves)
            # The squared differences of n values sum to n times their squares about the mean.
            halves += (x - x.mean(dim=0)).square_().sum(dim=0) * (len(line) / 2)
            n_pairs += comb(len(line), 2)
        return halves / n_pairs

    def _total(self, by_group: Tensor) -> Tensor:
        """Return the sum over groups, which is computed once."""
        total = self._totals.get(id(by_group))
        if total is None:
            total = self._totals[id(by_group)] = by_group.sum(dim=0)
        return total

    def _used(self) -> int:
        """Return how many groups have passes: the first ones, as passes are numbered from 0."""
        return int((self._counts > 0).sum())

    def _strata_tell(self) -> bool:
        """Tell whether at least two strata ran, so that their means have a variance."""
        counts = self._strata_counts if self._groups.few_strata else self._counts
        told = self._groups.by_stratum or self._groups.few_strata > 0
        return told and int((counts > 0).sum()) > 1

    def _plain_variance(self) -> Tensor:
        """Return the mean square about the mean of the passes."""
        if self._square_about_mean is None:
            mean = self._total(self._sums) / self.count
            square = self._total(self._squares) / self.count - mean.square()
            self._square_about_mean = square.clamp_min_(0)
        return self._square_about_mean

    def _variance_of_mean(self) -> Tensor:
        """Return the squared standard error of the mean from the spread between strata."""
        if self._mean_variance is None:
            mean = self.mean
            if self._groups.few_strata:
                used = slice(0, int((self._strata_counts > 0).sum()))
                counts = self.count - self._strata_counts[used]
                left = self._strata_sums.sum(dim=0) - self._strata_sums[used]
                means = self._base() + left / column(counts, self._strata_sums)
            else:
                counts, means, _ = self.without_each()
            self._mean_variance = _jackknife_variance(mean, means, counts, self.count)
        return self._mean_variance

    def _variance_from_strata(self) -> Tensor:
        """Return the variance of passes from pairs of different strata.

        Half their squared difference has the expectation Var(x) - cov, where cov is, up to products
        of correlations, proportional to the correlation of their masks: that of pairs within
        strata tells how much.
        """
        if self._from_strata is None:
            across = self._plain_variance() + self._variance_of_mean()
            of_within, of_across = self._groups.correlations(self.count)
            if of_across == 0:
                self._from_strata = across
            elif of_across / of_within > _MOST_EXTRAPOLATED:
                self._from_strata = across / (1 - of_across)
            else:
                beyond = of_across / (of_within - of_across)
                same, others, squares = self._squares_within_strata()
                # What pairs within strata are known to be on average, put in at once.
                across = across * (1 + beyond * (1 + others / same))
                self._from_strata = across.sub_(squares, alpha=beyond / same).clamp_min_(0)
        return self._from_strata

    def _squares_within_strata(self) -> tuple[float, float, Tensor]:
        """Return the sum of squares about the means of strata, and which pairs it consists of.

        Its expectation is the first number times that of (x - x')^2 / 2 over pairs of a stratum,
        plus the second number times that over other pairs.
        """
        sums, counts = self._sums, self._counts
        if self._groups.few_strata:
            sums, counts = self._strata_sums, self._strata_counts
        used = int((counts > 0).sum())
        same, others = self._groups.shares_of_pairs(self.count, len(counts))
        of_means = _weighted(1 / counts[:used], sums[:used].square())
        return same, others, self._total(self._squares) - of_means

    def _share_of_mean(self) -> float:
        """Return Var(mean) / Var(x), known for independent passes, assumed for few strata."""
        if not self._groups.stratified:
            return 1 / self.count
        # Of each pass, 9 others of its grid are in no line with it. Their correlation is
        # -(1 - share) / 9, so that the mean over a whole grid has the assumed share.
        numbers = torch.arange(self.count, device="cpu")
        row, column = numbers % STRATUM // SIDE, numbers % SIDE
        apart = (row[:, None] != row) & (column[:, None] != column)
        apart &= numbers[:, None] // STRATUM == numbers // STRATUM
        return (self.count - int(apart.sum()) * (1 - _LARGEST_USUAL_SHARE) / 9) / self.count**2


def jackknife(whole: Tensor, without_each: Tensor, counts: Tensor, count: int) -> Tensor:
    """Jackknife standard error of a quantity from its leave-one-group-out values.

    It is widened by Student's t with G - 1 degrees of freedom, so that 1.96 standard errors cover
    95 % also for few groups.

    Args:
        whole: The quantity from all passes.
        without_each: The quantity without each group, (G, ...).
        counts: Passes that remain without each group, (G,).
        count: Passes in total.

    Returns:
        Standard error, shape of `whole`. NaN for fewer than three groups: of two passes, one
        remains, whose variance is 0, and the standard error would wrongly be 0.

    Source:
        Busing, Meijer & van der Leeden (1999), the delete-m_j jackknife.
    """
    if len(counts) < 3:
        return torch.full_like(whole, torch.nan)
    variance = _jackknife_variance(whole, without_each, counts, count)
    return variance.sqrt() * widening(len(counts) - 1)


def _jackknife_variance(whole: Tensor, without: Tensor, counts: Tensor, count: int) -> Tensor:
    """Return the squared standard error; groups may differ in size.

    With h_j the number of passes over that of group j, its pseudo-value is W - (h_j - 1)(W_j - W).
    Their mean, weighted by 1 / h_j, is the center.
    """
    share = count / (count - counts)
    off = (without - whole).mul_(column(share - 1, without))
    deviation = (_weighted(1 / share, off) - off).square_()
    return _weighted(1 / ((share - 1) * len(counts)), deviation)


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """Return the sum over groups, with weights known on the host."""
    return torch.tensordot(column(weights, values).flatten(), values, dims=1)
