"""Streaming means and variances over passes in float64, and their Monte Carlo errors.

Sums and sums of squares are kept for up to 16 groups of passes. Any function of means and
variances can then be recomputed without each group, and the spread of these values estimates its
standard error (the delete-group jackknife). Memory does not grow with the number of passes; fewer
than 32 stratified ones are kept, because the variance is read off passes that are independent.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import Membership, PassGroups
from mcdrop._engine.jackknife import Sizes, means_without_each, squared_sums, variance_of_mean
from mcdrop._engine.lines import powers_of_mean, variance_on_lines
from mcdrop._engine.student import widening
from mcdrop._masks.grid import SIDE
from mcdrop._masks.stratified import STRATUM

__all__ = ["Moments", "accumulation_dtype"]

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

    Sizes of groups are known on the host, so that no device is waited for.

    Args:
        groups: Groups of passes for the jackknife; by default single passes.
    """

    def __init__(self, groups: PassGroups | None = None) -> None:
        self.count = 0
        self._groups = groups or PassGroups(None)
        self._center: Tensor | None = None
        self._n_groups = 0
        self._sums = self._squares = self._strata_sums = _HOST
        self._kept: list[Tensor] = []
        self._left: tuple[Sizes, Tensor, Tensor] | None = None
        self._mean: Tensor | None = None
        self._mean_variance: Tensor | None = None
        self._from_strata: Tensor | None = None
        self._on_lines: Tensor | None = None
        self._square_about_mean: Tensor | None = None
        self._totals: dict[int, Tensor] = {}

    @property
    def on_grid(self) -> bool:
        """Whether the passes lie on a grid."""
        return self._groups.on_grid

    def update(self, chunk: Tensor, beside: int = 0) -> None:
        """Add passes, shape (s, ...).

        Args:
            chunk: The passes.
            beside: Numbers per pass of other moments that need the same groups as these.
        """
        values = chunk.to(accumulation_dtype(chunk.device))
        if self._groups.on_grid:
            self._kept.append(chunk)
        self._add(values - self._begun(values, beside))

    def _begun(self, values: Tensor, beside: int) -> Tensor:
        """Return the center, which the first passes decide together with the number of groups."""
        if self._center is None:
            self._center = values.mean(dim=0)
            numel = max(1, beside, self._center.numel())
            self._n_groups = max(_FEWEST_GROUPS, min(_GROUPS, _GROUPS * _LARGE // numel))
        return self._center

    def _add(self, centered: Tensor) -> None:
        """Add passes less the center, which are overwritten."""
        count = len(centered)
        member = self._groups.of(self.count, count, self._n_groups)
        n_begun = len(self._sizes())
        self._sums = member.add_sums(self._sums, self._summed(member, centered), n_begun)
        if self._groups.few_strata:
            strata = self._groups.strata(self.count, count)
            n_strata = len(self._groups.sizes_of_strata(self.count))
            of_strata = self._summed(strata, centered)
            self._strata_sums = strata.add_sums(self._strata_sums, of_strata, n_strata)
        squares = self._summed(member, self._squared(centered), overwrites=True)
        self._squares = member.add_sums(self._squares, squares, n_begun)
        self.count += count
        self._totals.clear()
        self._left = self._mean = self._mean_variance = self._square_about_mean = None
        self._from_strata = self._on_lines = None

    def _squared(self, centered: Tensor) -> Tensor:
        """Return the squares of passes less the center, which are overwritten."""
        return centered.square_()

    def _summed(self, member: Membership, values: Tensor, *, overwrites: bool = False) -> Tensor:
        """Return the sums of passes over the groups they belong to; see `Membership.sums`."""
        return member.matrix.times(values)

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
        n_used = len(self._sizes()) if self._groups.by_stratum else 0
        if n_used < 2:
            return independent * widening(self.count - 1)
        error = self._variance_of_mean().sqrt() * widening(n_used - 1)
        # With few strata the estimate is noisy; cap it at the error of independent passes.
        return torch.minimum(error, independent)

    def powers_of_mean(self) -> tuple[Tensor, Tensor]:
        """Return unbiased estimates of the squared and the cubed mean, of passes on a grid."""
        return powers_of_mean(self._passes().to(self._base()))

    def without_each(self) -> tuple[Sizes, Tensor, Tensor]:
        """Return the sizes of groups, and the means and variances without each of them, (G, ...).

        These variances are divided by the count, not by the count minus 1.
        """
        if self._left is None:
            sizes = self._sizes()
            used = slice(0, len(sizes))
            means = means_without_each(self._sums[used], sizes)
            variances = means_without_each(self._squares[used], sizes)
            variances.addcmul_(means, means, value=-1).clamp_min_(0)
            self._left = sizes, means.add_(self._base()), variances
        return self._left

    def part(self, *index: Tensor | slice) -> Self:
        """Return the moments of a part of the values.

        Args:
            index: Selects along the dimensions of the chunks behind the first.
        """
        part, of_each = type(self)(self._groups), (slice(None), *index)
        part.count, part._n_groups = self.count, self._n_groups
        part._center = self._base()[index]
        part._sums, part._squares = self._sums[of_each], self._squares[of_each]
        if self._groups.few_strata:
            part._strata_sums = self._strata_sums[of_each]
        part._kept = [chunk[of_each] for chunk in self._kept]
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
        """Return the variance of passes on a grid."""
        if self._on_lines is None:
            base = self._base()
            self._on_lines = variance_on_lines(self._passes().to(base) - base)
        return self._on_lines

    def _total(self, by_group: Tensor) -> Tensor:
        """Return the sum over groups, which is computed once."""
        total = self._totals.get(id(by_group))
        if total is None:
            total = self._totals[id(by_group)] = by_group[: len(self._sizes())].sum(dim=0)
        return total

    def _sizes(self) -> Sizes:
        """Return how many passes are in every group that has any."""
        return self._groups.sizes(self.count, self._n_groups)

    def _strata(self) -> tuple[Tensor, Sizes]:
        """Return the sums over strata and their sizes; no sizes where passes are not in strata."""
        if self._groups.few_strata:
            return self._strata_sums, self._groups.sizes_of_strata(self.count)
        return self._sums, self._sizes() if self._groups.by_stratum else ()

    def _strata_tell(self) -> bool:
        """Tell whether at least two strata ran, so that their means have a variance."""
        return len(self._strata()[1]) > 1

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
            sums, sizes = self._strata()
            self._mean_variance = variance_of_mean(sums[: len(sizes)], sizes)
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
        n_groups = self._groups.few_strata or self._n_groups
        same, others = self._groups.shares_of_pairs(self.count, n_groups)
        sums, sizes = self._strata()
        of_means = squared_sums(sums[: len(sizes)], sizes)
        return same, others, self._total(self._squares) - of_means

    def _share_of_mean(self) -> float:
        """Return Var(mean) / Var(x), known for independent passes, assumed for few strata."""
        return _assumed_share(self.count) if self._groups.stratified else 1 / self.count


@lru_cache(maxsize=64)
def _assumed_share(count: int) -> float:
    """Return Var(mean) / Var(x) if a whole grid has the largest usual share.

    Of each pass, 9 others of its grid are in no line with it. Their correlation is then
    -(1 - share) / 9.
    """
    numbers = torch.arange(count, device="cpu")
    row, column = numbers % STRATUM // SIDE, numbers % SIDE
    apart = (row[:, None] != row) & (column[:, None] != column)
    apart &= numbers[:, None] // STRATUM == numbers // STRATUM
    return (count - int(apart.sum()) * (1 - _LARGEST_USUAL_SHARE) / 9) / count**2
