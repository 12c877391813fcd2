"""Sums over passes, and over masks without a pass, from which class quantities are estimated."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import Sizes, means_without_each
from mcdrop._engine.moments import Moments, accumulation_dtype
from mcdrop._masks.stratified import STRATUM

__all__ = ["ClassMeans", "MaskSums", "PassSums"]

_GROUPS = 16
# Beyond so many elements, fewer groups are kept, to bound the memory.
_LARGE = 2**20
_FEWEST_GROUPS = 4


@dataclass(frozen=True)
class ClassMeans:
    """Means over passes, all passes or without each of some groups in front.

    Attributes:
        probs: Of the probabilities, (..., n, C, ...).
        spread: Of their squared deviations from it, of the same shape.
        entropy: Of the entropies, (..., n, ...).
    """

    probs: Tensor
    spread: Tensor
    entropy: Tensor

    def deviations(self, center: Tensor) -> Tensor:
        """Return the mean squares about a center."""
        return self.spread + (self.probs - center).square()

    def divergences(self, center: Tensor, classes: int) -> Tensor:
        """Return the mean divergences from a center."""
        tiny = torch.finfo(center.dtype).tiny
        cross = -(self.probs * center.clamp_min(tiny).log()).sum(dim=classes)
        return (cross - self.entropy).clamp_min(0)


class PassSums:
    """Sums over passes by group of passes.

    Args:
        groups: Groups for the jackknife.
    """

    def __init__(self, groups: PassGroups) -> None:
        self._probs, self._within, self._entropies = (Moments(groups) for _ in range(3))

    @property
    def count(self) -> int:
        """Number of passes."""
        return self._probs.count

    def update(self, probs: Tensor, entropies: Tensor, n_passes: int) -> None:
        """Add passes.

        Args:
            probs: Class probabilities, (n_passes * draws, n, C, ...).
            entropies: Their entropies, (n_passes * draws, n, ...).
            n_passes: How many.
        """
        if len(probs) > n_passes:
            by_pass = probs.unflatten(0, (n_passes, -1))
            probs = by_pass.mean(dim=1)
            self._within.update((by_pass - probs.unsqueeze(1)).square_().mean(dim=1))
            entropies = entropies.unflatten(0, (n_passes, -1)).mean(dim=1)
        self._probs.update(probs)
        self._entropies.update(entropies, beside=probs[0].numel())

    def rows(self, rows: Tensor) -> PassSums:
        """Return the sums of some rows."""
        part = copy(self)
        part._probs, part._entropies = self._probs.part(rows), self._entropies.part(rows)
        part._within = self._within.part(rows) if self._within.count else self._within
        return part

    def whole(self) -> ClassMeans:
        """Return the means over all passes."""
        within: Tensor | float = self._within.mean if self._within.count else 0.0
        spread = self._probs.mean_square + within
        return ClassMeans(self._probs.mean, spread, self._entropies.mean)

    def without_each(self) -> tuple[Sizes, ClassMeans]:
        """Return the passes of every group, and the means over all others."""
        sizes, probs, spread = self._probs.without_each()
        if self._within.count:
            spread = spread + self._within.without_each()[1]
        return sizes, ClassMeans(probs, spread, self._entropies.without_each()[1])


class MaskSums:
    """Sums over masks without a pass, by group of strata.

    The same as moments of passes in strata, but whole strata alone are added, which takes a tenth
    of the time.
    """

    def __init__(self) -> None:
        self.count = 0
        self._center = self._probs = self._squares = torch.zeros(0, device="cpu")
        self._entropies = torch.zeros(0, device="cpu")

    def update(self, probs: Tensor, entropies: Tensor) -> None:
        """Add masks in whole strata.

        Args:
            probs: Class probabilities, (count, n, C, ...).
            entropies: Their entropies, (count, n, ...).
        """
        if not self.count:
            dtype = accumulation_dtype(probs.device)
            self._center = probs[:STRATUM].mean(dim=0)
            n_groups = _FEWEST_GROUPS if probs[0].numel() * _GROUPS > _LARGE else _GROUPS
            self._probs, self._squares, self._entropies = (
                torch.zeros((n_groups, *like[0].shape), dtype=dtype, device=probs.device)
                for like in (probs, probs, entropies)
            )
        off = probs - self._center
        self._add(self._probs, off)
        self._add(self._squares, off.square_())
        self._add(self._entropies, entropies)
        self.count += len(probs)

    def rows(self, rows: Tensor) -> Self:
        """Return the sums of some rows."""
        part = copy(self)
        part._center, part._probs = self._center[rows], self._probs[:, rows]
        part._squares, part._entropies = self._squares[:, rows], self._entropies[:, rows]
        return part

    def whole(self) -> ClassMeans:
        """Return the means over all masks."""
        off, square, entropies = (
            sums.sum(dim=0) / self.count for sums in (self._probs, self._squares, self._entropies)
        )
        spread = (square - off.square()).clamp_min_(0)
        return ClassMeans(off + self._center, spread, entropies)

    def without_each(self) -> tuple[Sizes, ClassMeans]:
        """Return the masks of every group, and the means over all others."""
        sizes = _sizes(self.count, len(self._probs))
        off, square, entropies = (
            means_without_each(sums[: len(sizes)], sizes)
            for sums in (self._probs, self._squares, self._entropies)
        )
        spread = (square - off.square()).clamp_min_(0)
        return sizes, ClassMeans(off + self._center, spread, entropies)

    def _add(self, total: Tensor, values: Tensor) -> None:
        """Add masks to the sums over groups: strata take turns."""
        of_strata = values.unflatten(0, (-1, STRATUM)).sum(dim=1, dtype=total.dtype)
        first = self.count // STRATUM
        for begin in range(0, len(of_strata), len(total)):
            some = of_strata[begin : begin + len(total)]
            start = (first + begin) % len(total)
            until = min(len(some), len(total) - start)
            total[start : start + until] += some[:until]
            total[: len(some) - until] += some[until:]


@lru_cache(maxsize=64)
def _sizes(count: int, n_groups: int) -> Sizes:
    """Return the masks of every group that has any."""
    whole, rest = divmod(count // STRATUM, n_groups)
    sizes = (STRATUM * (whole + (number < rest)) for number in range(n_groups))
    return tuple(size for size in sizes if size)
