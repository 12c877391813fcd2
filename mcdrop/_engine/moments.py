"""Streaming means and variances over passes in float64, and their Monte Carlo errors.

Sums and sums of squares are kept for up to 16 groups of passes. Any function of means and
variances can then be recomputed without each group, and the spread of these values estimates its
standard error (the delete-group jackknife). Memory does not grow with the number of passes.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mcdrop._masks.stratified import STRATUM

__all__ = ["Moments", "PassGroups", "accumulation_dtype", "jackknife"]

_GROUPS = 16
# Beyond so many elements per pass, fewer groups are kept, to bound the memory.
_LARGE = 2**20
_FEWEST_GROUPS = 4

# Variance of the mean over stratified passes as a share of that over as many independent passes,
# where too few strata ran to estimate it. On trained networks it is between 0.02 and 0.4.
_USUAL_SHARE = 0.15
_FEWEST_STRATA = 4


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices without float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class PassGroups:
    """Groups of passes for the jackknife.

    Args:
        n_samples: Number of passes; None if unknown in advance, but then a multiple of 16.
        stratified: Whether passes are stratified, in strata of 16.

    Attributes:
        stratified: As given.
        by_stratum: Whether groups consist of whole strata, which are independent of one another
            or slightly negatively correlated. Otherwise passes are grouped one by one. For
            stratified passes that overestimates the error of the mean, because passes of a
            stratum are negatively correlated.
    """

    def __init__(self, n_samples: int | None, *, stratified: bool = False) -> None:
        self.stratified = stratified
        self._strata = None if n_samples is None else n_samples // STRATUM
        enough = self._strata is None or self._strata >= _FEWEST_STRATA
        self.by_stratum = stratified and enough

    def of(self, first: int, count: int, n_groups: int, like: Tensor) -> Tensor:
        """Return the indicator matrix of group membership, (groups, passes).

        Args:
            first: Number of the first pass.
            count: Number of passes.
            n_groups: Number of groups.
            like: Tensor whose dtype and device the result has.
        """
        numbers = torch.arange(first, first + count, device=like.device)
        if self.by_stratum:
            numbers = numbers // STRATUM
            if self._strata is not None:
                # A last, incomplete stratum joins the one before it.
                numbers = numbers.clamp_max(self._strata - 1)
        groups = torch.arange(n_groups, device=like.device).unsqueeze(1)
        return (numbers % n_groups == groups).to(like.dtype)


class Moments:
    """Mean and variance of the passes so far, in total and by group.

    Values are centered on the mean of the first chunk, which avoids cancellation where the spread
    is small against the mean.

    Args:
        groups: Groups of passes for the jackknife; by default single passes.
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

        E[mean square about the sample mean] = Var(x) - Var(sample mean). For independent passes
        Var(sample mean) = Var(x) / S; for stratified ones it is smaller and estimated on its own.
        """
        plain = self._plain_variance()
        if self._strata_tell():
            return plain + self._variance_of_mean()
        return plain / (1 - self._share_of_mean())

    @property
    def variance_of_mean(self) -> Tensor:
        """Squared standard error of `mean`; an upper bound for fewer than 4 strata."""
        if self._strata_tell():
            return self._variance_of_mean()
        return self._plain_variance() / max(1, self.count - 1)

    @property
    def mean_error(self) -> Tensor:
        """Standard error of `mean`, widened by Student's t so that 1.96 of it cover 95 %."""
        independent = (self._plain_variance() / max(1, self.count - 1)).sqrt()
        if not self._strata_tell():
            return independent * _widening(self.count - 1)
        error = self._variance_of_mean().sqrt() * _widening(int(self._used().sum()) - 1)
        # With few strata the estimate is noisy; cap it at the error of independent passes.
        return torch.minimum(error, independent)

    def without_each(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the leave-one-group-out counts (G,), means and variances (G, ...).

        These variances are divided by the count, not by the count minus 1.
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
        """Return the moments of some rows.

        Args:
            rows: Indices along dimension 1 of the chunks.
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
        """Tell which groups have passes."""
        return self._counts > 0

    def _strata_tell(self) -> bool:
        """Tell whether enough strata ran to estimate the variance between them."""
        return self._groups.by_stratum and int(self._used().sum()) > 1

    def _plain_variance(self) -> Tensor:
        """Return the mean square about the mean of the passes."""
        mean = self._sums.sum(dim=0) / self.count
        return (self._squares.sum(dim=0) / self.count - mean.square()).clamp_min_(0)

    def _variance_of_mean(self) -> Tensor:
        if self._mean_variance is None:
            counts, means, _ = self.without_each()
            self._mean_variance = _jackknife_variance(self.mean, means, counts, self.count)
        return self._mean_variance

    def _share_of_mean(self) -> float:
        """Return Var(mean) / Var(x), known for independent passes, assumed for few strata."""
        if not self._groups.stratified:
            return 1 / self.count
        strata, rest = divmod(self.count, STRATUM)
        partial = 1 - (rest - 1) / (STRATUM - 1) * (1 - _USUAL_SHARE)
        return (strata * STRATUM * _USUAL_SHARE + rest * partial) / self.count**2


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
    return variance.sqrt() * _widening(len(counts) - 1)


def _jackknife_variance(whole: Tensor, without: Tensor, counts: Tensor, count: int) -> Tensor:
    """Return the squared standard error; groups may differ in size."""
    inverse_share = (count / (count - counts)).view(-1, *(1 for _ in whole.shape))
    pseudo = inverse_share * whole - (inverse_share - 1) * without
    center = (pseudo / inverse_share).sum(dim=0)
    return ((pseudo - center).square() / (inverse_share - 1)).mean(dim=0)


@cache
def _widening(degrees: int) -> float:
    """Return the half-width of Student's 95 % interval over that of the normal one."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(max(1, degrees), 0.975) / ndtri(0.975))
