"""Streaming means and variances over passes in float64, and what is known of their error.

Besides the totals, sums are kept for up to 16 groups of passes, so that any quantity made of means
and variances can be computed again without each group: the spread of the results is its Monte
Carlo error (the jackknife). Memory does not grow with the number of passes.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mcdrop._masks.stratified import STRATUM

__all__ = ["Moments", "PassGroups", "accumulation_dtype", "jackknife"]

_GROUPS = 16
# Elements of one pass beyond which fewer groups are kept.
_LARGE = 2**20
_FEWEST_GROUPS = 4

# Where there are too few strata to see how much they help, the variance of the mean is taken to be
# this share of that of independent passes; on trained networks it lies between 0.02 and 0.4.
_USUAL_SHARE = 0.15
_FEWEST_STRATA = 4


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


class PassGroups:
    """Which passes are set against one another to see how much the answer would vary.

    Args:
        n_samples: Number of passes; None if it is not known beforehand, but a multiple of 16.
        stratified: Whether every 16 passes are balanced among each other.

    Attributes:
        stratified: As given.
        by_stratum: Whether groups consist of whole strata, which are independent of one another
            or slightly opposed. Otherwise they consist of single passes: their spread is then too
            large for the mean of stratified passes, never too small.
    """

    def __init__(self, n_samples: int | None, *, stratified: bool = False) -> None:
        self.stratified = stratified
        self._strata = None if n_samples is None else n_samples // STRATUM
        enough = self._strata is None or self._strata >= _FEWEST_STRATA
        self.by_stratum = stratified and enough

    def of(self, first: int, count: int, n_groups: int, like: Tensor) -> Tensor:
        """Return which group each pass belongs to, as ones in a matrix (groups, passes).

        Args:
            first: Number of the first pass.
            count: Number of passes.
            n_groups: Number of groups.
            like: Gives type and device.
        """
        numbers = torch.arange(first, first + count, device=like.device)
        if self.by_stratum:
            numbers = numbers // STRATUM
            if self._strata is not None:
                # The passes of a last, incomplete stratum join the one before.
                numbers = numbers.clamp_max(self._strata - 1)
        groups = torch.arange(n_groups, device=like.device).unsqueeze(1)
        return (numbers % n_groups == groups).to(like.dtype)


class Moments:
    """Mean and variance of what was seen so far, in all and by groups of passes.

    Sums are taken about the mean of the first passes, so that a small spread around a large mean
    keeps its digits.
    """

    def __init__(self, groups: PassGroups | None = None) -> None:
        self.count = 0
        self._groups = groups or PassGroups(None)
        self._center: Tensor | None = None
        self._counts = torch.zeros(0)
        self._sums = torch.zeros(0)
        self._squares = torch.zeros(0)
        self._left: tuple[Tensor, Tensor, Tensor] | None = None
        self._mean_variance: Tensor | None = None

    def update(self, chunk: Tensor) -> None:
        """Add passes, shape (s, ...)."""
        values = chunk.to(accumulation_dtype(chunk.device))
        if self._center is None:
            self._center = values.mean(dim=0)
            numel = max(1, self._center.numel())
            n_groups = max(_FEWEST_GROUPS, min(_GROUPS, _GROUPS * _LARGE // numel))
            self._counts = values.new_zeros(n_groups)
            self._sums = values.new_zeros((n_groups, *values.shape[1:]))
            self._squares = torch.zeros_like(self._sums)
        centered = (values - self._center).flatten(1)
        member = self._groups.of(self.count, len(values), len(self._counts), values)
        self._counts += member.sum(dim=1)
        self._sums += (member @ centered).view_as(self._sums)
        self._squares += (member @ centered.square_()).view_as(self._squares)
        self.count += len(values)
        self._left = self._mean_variance = None

    @property
    def mean(self) -> Tensor:
        """Mean over passes."""
        return self._base() + self._sums.sum(dim=0) / self.count

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over passes: divided by S - 1 where they are independent.

        The average square about the mean of the passes falls short of the variance by the variance
        of that mean, which stratified passes make small.
        """
        plain = self._plain_variance()
        if self._strata_tell():
            return plain + self._variance_of_mean()
        return plain / (1 - self._share_of_mean())

    @property
    def variance_of_mean(self) -> Tensor:
        """Squared standard error of `mean`; for few stratified passes, an upper bound."""
        if self._strata_tell():
            return self._variance_of_mean()
        return self._plain_variance() / max(1, self.count - 1)

    @property
    def mean_error(self) -> Tensor:
        """Standard error of `mean`, such that 1.96 of it cover 95 %."""
        independent = (self._plain_variance() / max(1, self.count - 1)).sqrt()
        if not self._strata_tell():
            return independent * _widening(self.count - 1)
        error = self._variance_of_mean().sqrt() * _widening(int(self._used().sum()) - 1)
        # Strata do not make the mean worse, but few of them can tell little.
        return torch.minimum(error, independent)

    def without_each(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is left without each group: counts (G,), means and variances (G, ...).

        These variances are divided by the count.
        """
        if self._left is not None:
            return self._left
        used = self._used()
        counts = self.count - self._counts[used]
        share = counts.view(-1, *(1 for _ in self._sums.shape[1:]))
        means = (self._sums.sum(dim=0) - self._sums[used]) / share
        variances = (self._squares.sum(dim=0) - self._squares[used]) / share - means.square()
        self._left = counts, self._base() + means, variances.clamp_min_(0)
        return self._left

    def rows(self, rows: Tensor) -> Moments:
        """Return the moments of some rows, dimension 1 of what was added.

        Args:
            rows: Indices.
        """
        part = Moments(self._groups)
        part.count, part._counts = self.count, self._counts.clone()
        part._center = self._base()[rows]
        part._sums, part._squares = self._sums[:, rows], self._squares[:, rows]
        return part

    def _base(self) -> Tensor:
        if self._center is None:
            raise RuntimeError("Moments: no passes have been added")
        return self._center

    def _used(self) -> Tensor:
        """Tell which groups have passes in them."""
        return self._counts > 0

    def _strata_tell(self) -> bool:
        """Tell whether there are enough strata to see how much the mean varies between them."""
        return self._groups.by_stratum and int(self._used().sum()) > 1

    def _plain_variance(self) -> Tensor:
        """Return the average squared distance from the mean of the passes."""
        mean = self._sums.sum(dim=0) / self.count
        return (self._squares.sum(dim=0) / self.count - mean.square()).clamp_min_(0)

    def _variance_of_mean(self) -> Tensor:
        if self._mean_variance is None:
            counts, means, _ = self.without_each()
            self._mean_variance = _jackknife_variance(self.mean, means, counts, self.count)
        return self._mean_variance

    def _share_of_mean(self) -> float:
        """Return the variance of the mean over that of a pass, where the spread cannot tell."""
        if not self._groups.stratified:
            return 1 / self.count
        strata, rest = divmod(self.count, STRATUM)
        partial = 1 - (rest - 1) / (STRATUM - 1) * (1 - _USUAL_SHARE)
        return (strata * STRATUM * _USUAL_SHARE + rest * partial) / self.count**2


def jackknife(whole: Tensor, without_each: Tensor, counts: Tensor, count: int) -> Tensor:
    """Standard error of a quantity from its values without each group of passes.

    Widened by Student's t, so that 1.96 standard errors cover 95 % however few the groups.

    Args:
        whole: The quantity from all passes.
        without_each: The quantity without each group, (G, ...).
        counts: Passes left each time, (G,).
        count: Passes in all.

    Returns:
        Standard error, shape of `whole`; NaN for fewer than three groups: what is left of two
        passes has no spread, and its absence would pass for precision.

    Source:
        Busing, Meijer & van der Leeden (1999), the delete-m_j jackknife.
    """
    if len(counts) < 3:
        return torch.full_like(whole, torch.nan)
    variance = _jackknife_variance(whole, without_each, counts, count)
    return variance.sqrt() * _widening(len(counts) - 1)


def _jackknife_variance(whole: Tensor, without: Tensor, counts: Tensor, count: int) -> Tensor:
    """Return the squared standard error; groups may differ in size."""
    inverse_share = (count / (count - counts)).view(-1, *(1 for _ in whole.shape))
    pseudo = inverse_share * whole - (inverse_share - 1) * without
    center = (pseudo / inverse_share).sum(dim=0)
    return ((pseudo - center).square() / (inverse_share - 1)).mean(dim=0)


@cache
def _widening(degrees: int) -> float:
    """Return how much wider Student's 95 % interval is than the normal one."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(max(1, degrees), 0.975) / ndtri(0.975))
