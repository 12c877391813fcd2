"""Which passes belong together, and sums over those that do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mcdrop._engine.jackknife import Sizes
from mcdrop._engine.matrices import KeptMatrix
from mcdrop._masks.grid import on_grid
from mcdrop._masks.pairs import pair_correlations
from mcdrop._masks.stratified import STRATUM

__all__ = ["GroupedPasses", "Membership", "PassGroups", "Rates"]

Integers = npt.NDArray[np.int64]

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

    def numbers(self) -> Integers:
        """Return the number of each pass or of its stratum; an incomplete last one joins others."""
        numbers = np.arange(self.first, self.first + self.count)
        if self.strata == -1:
            return numbers
        numbers //= STRATUM
        return numbers if self.strata is None else numbers.clip(max=self.strata - 1)


@dataclass(frozen=True)
class Membership:
    """Which groups some successive passes belong to.

    Attributes:
        n_groups: Groups in all.
        some: The groups from the first to the last that any of the passes belongs to.
        matrix: Ones where a pass belongs to a group, (groups among `some`, passes).
        in_turn: Whether the passes belong to the groups from the first on, one by one.
    """

    n_groups: int
    some: slice
    matrix: KeptMatrix
    in_turn: bool

    @classmethod
    def of(cls, passes: GroupedPasses, n_groups: int) -> Membership:
        """Return the membership of passes in groups that take turns; that of few is kept."""
        make = _kept_membership if passes.count <= _SMALL else _kept_membership.__wrapped__
        return make(passes, n_groups)

    def add(self, total: Tensor, values: Tensor, n_begun: int) -> Tensor:
        """Add passes, (s, ...), to the sums over groups, which begin as an empty tensor.

        Args:
            total: Sums so far, (groups, ...); those of groups without passes are not read.
            values: The passes.
            n_begun: How many groups have passes already: the first ones, as passes come in order.
        """
        return self.add_sums(total, self.matrix.times(values), n_begun)

    def sums(self, values: Tensor, *, overwrites: bool = False) -> Tensor:
        """Return the sums over groups, without a product where passes take the groups in turn.

        Args:
            values: The passes.
            overwrites: Whether they may be overwritten and become part of the result.
        """
        if not self.in_turn:
            return self.matrix.times(values)
        sums = values[: self.n_groups]
        sums = sums if overwrites else sums.clone()
        for some in values[self.n_groups :].split(self.n_groups):
            sums[: len(some)] += some
        return sums

    def add_sums(self, total: Tensor, sums: Tensor, n_begun: int) -> Tensor:
        """Add sums over groups of some passes; see `add`."""
        first, end = self.some.start, self.some.stop
        if not total.numel():
            if len(sums) == self.n_groups:
                return sums
            total = sums.new_empty((self.n_groups, *sums.shape[1:]))
        # A chunk of few passes leaves most groups alone.
        begun = max(first, min(end, n_begun))
        if begun > first:
            total[first:begun] += sums[: begun - first]
        if end > begun:
            total[begun:end] = sums[begun - first :]
        return total


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

    def of(self, first: int, count: int, n_groups: int) -> Membership:
        """Return which groups some passes belong to.

        Args:
            first: Number of the first pass.
            count: Number of passes.
            n_groups: Number of groups.
        """
        strata = self._strata if self.by_stratum else -1
        return Membership.of(GroupedPasses(first, count, strata), n_groups)

    def strata(self, first: int, count: int) -> Membership:
        """Return which strata some passes belong to, if they are 2 or 3.

        Args:
            first: Number of the first pass.
            count: Number of passes.
        """
        return Membership.of(GroupedPasses(first, count, self._strata), self.few_strata)


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
    return tuple(np.bincount(passes.numbers() % n_groups).tolist())


@lru_cache(maxsize=64)
def _kept_membership(passes: GroupedPasses, n_groups: int) -> Membership:
    groups = passes.numbers() % n_groups
    some = slice(int(groups.min()), int(groups.max()) + 1)
    matrix = groups == np.arange(some.start, some.stop)[:, None]
    in_turn = bool((groups == np.arange(len(groups)) % n_groups).all())
    return Membership(n_groups, some, KeptMatrix(matrix.astype(np.float64)), in_turn)
