"""Which passes belong together, and matrices of it that are made once and stay on their device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mcdrop._engine.jackknife import Sizes
from mcdrop._masks.grid import on_grid
from mcdrop._masks.pairs import pair_correlations
from mcdrop._masks.stratified import STRATUM

__all__ = ["GroupedPasses", "PassGroups", "Rates", "indicators", "plus"]

# Dropout rate of every site whose masks are drawn.
Rates = tuple[float, ...]

# Passes of a chunk whose membership in groups is kept for the next prediction.
_SMALL = 1024
# Fewer strata than this give no usable error of the mean.
_FEWEST_STRATA = 4


@dataclass(frozen=True)
class GroupedPasses:
    """Some successive passes; with `strata` given they are grouped by stratum.

    Attributes:
        first: Number of the first.
        count: How many.
        strata: Strata in all, None if unknown in advance, -1 for single passes.
    """

    first: int
    count: int
    strata: int | None

    def numbers(self, device: torch.device) -> Tensor:
        """Return the number of each pass or of its stratum; an incomplete last one joins others."""
        numbers = torch.arange(self.first, self.first + self.count, device=device)
        if self.strata == -1:
            return numbers
        numbers = numbers // STRATUM
        return numbers if self.strata is None else numbers.clamp_max(self.strata - 1)


class PassGroups:
    """Groups of passes for the jackknife.

    Args:
        n_samples: Number of passes; None if unknown in advance, but then a multiple of 16.
        stratified: Whether passes are stratified, in strata of 16.
        rates: Dropout rate of every site whose masks are drawn, NaN for other noise; empty if
            unknown.

    Attributes:
        stratified: As given.
        on_grid: Whether passes lie on a grid, whose lines are independent; see `_masks/grid.py`.
        by_stratum: Whether groups consist of whole strata, which are independent of one another
            or slightly negatively correlated. Otherwise passes are grouped one by one. For
            stratified passes that overestimates the error of the mean, because passes of a
            stratum are negatively correlated.
    """

    def __init__(
        self, n_samples: int | None, *, stratified: bool = False, rates: Rates = ()
    ) -> None:
        self.stratified = stratified
        # Noise that is no dropout has no rate.
        self._rates = tuple(p for p in rates if 0 < p < 1)
        self.on_grid = on_grid(n_samples, stratified=stratified)
        self._strata = None if n_samples is None else n_samples // STRATUM
        enough = self._strata is None or self._strata >= _FEWEST_STRATA
        self.by_stratum = stratified and enough

    @property
    def few_strata(self) -> int:
        """Number of strata if they are 2 or 3: too few to be the groups; otherwise 0."""
        strata = self._strata or 0
        return strata if self.stratified and 2 <= strata < _FEWEST_STRATA else 0

    def correlations(self, count: int) -> tuple[float, float]:
        """Return the correlation of the masks of two passes of a stratum, and of different strata.

        Sites of different rates are averaged. Both are 0 where rates are unknown, or strata are
        not compared.

        Args:
            count: Number of passes.
        """
        if not self._rates or not self.stratified or self.on_grid:
            return 0.0, 0.0
        return _mean_correlations(self._rates, count)

    def shares_of_pairs(self, count: int, n_groups: int) -> tuple[float, float]:
        """Return how much pairs within groups weigh in the sum of squares about group means.

        The squares of n values about their mean sum to the sum over pairs of (x - x')^2 / n, so
        their expectation is the first number times that of (x - x')^2 / 2 for pairs of a stratum,
        plus the second number times that of other pairs.

        Args:
            count: Number of passes.
            n_groups: Number of groups.
        """
        return _shares_of_pairs(self._strata, count, n_groups)

    def sizes(self, count: int, n_groups: int) -> Sizes:
        """Return how many of the first `count` passes are in each group that has any."""
        return _sizes(GroupedPasses(0, count, self._strata if self.by_stratum else -1), n_groups)

    def sizes_of_strata(self, count: int) -> Sizes:
        """Return how many of the first `count` passes are in each stratum, if they are 2 or 3."""
        return _sizes(GroupedPasses(0, count, self._strata), self.few_strata)

    def of(self, first: int, count: int, n_groups: int, like: Tensor) -> Tensor:
        """Return the indicator matrix of group membership, (groups, passes).

        Args:
            first: Number of the first pass.
            count: Number of passes.
            n_groups: Number of groups.
            like: Tensor whose dtype and device the result has.
        """
        strata = self._strata if self.by_stratum else -1
        return indicators(GroupedPasses(first, count, strata), n_groups, like.dtype, like.device)

    def strata(self, first: int, count: int, like: Tensor) -> Tensor:
        """Return the indicator matrix of strata, (strata, passes), if they are 2 or 3.

        Args:
            first: Number of the first pass.
            count: Number of passes.
            like: Tensor whose dtype and device the result has.
        """
        passes = GroupedPasses(first, count, self._strata)
        return indicators(passes, self.few_strata, like.dtype, like.device)


@lru_cache(maxsize=64)
def _mean_correlations(rates: Rates, count: int) -> tuple[float, float]:
    found = [pair_correlations(p, count) for p in rates]
    within, across = (sum(each) / len(found) for each in zip(*found, strict=True))
    return within, across


@lru_cache(maxsize=64)
def _shares_of_pairs(strata: int | None, count: int, n_groups: int) -> tuple[float, float]:
    sizes: dict[int, list[int]] = {}
    for number, begin in enumerate(range(0, count, STRATUM)):
        stratum = number if strata is None else min(number, strata - 1)
        sizes.setdefault(stratum % n_groups, []).append(min(STRATUM, count - begin))
    of_strata = sum(sum(n * (n - 1) for n in each) / sum(each) for each in sizes.values())
    others = sum((sum(each) ** 2 - sum(n**2 for n in each)) / sum(each) for each in sizes.values())
    return of_strata, others


@lru_cache(maxsize=64)
def _sizes(passes: GroupedPasses, n_groups: int) -> Sizes:
    """Return the sizes of groups; passes fill the first ones, as they are numbered from 0."""
    numbers = passes.numbers(torch.device("cpu")) % n_groups
    return tuple(torch.bincount(numbers).tolist())


def indicators(
    passes: GroupedPasses, n_groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return ones where a pass belongs to a group, (groups, passes); small ones are kept."""
    make = _kept_indicators if passes.count <= _SMALL else _kept_indicators.__wrapped__
    return make(passes, n_groups, dtype, device)


@lru_cache(maxsize=64)
def _kept_indicators(
    passes: GroupedPasses, n_groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # What is kept has to serve calls outside inference mode as well.
    with torch.inference_mode(mode=False):
        groups = torch.arange(n_groups, device=device).unsqueeze(1)
        return (passes.numbers(device) % n_groups == groups).to(dtype)


def plus(total: Tensor, more: Tensor) -> Tensor:
    """Add to a sum, which begins as an empty tensor."""
    return total.add_(more) if total.numel() else more
