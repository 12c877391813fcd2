"""The random bits of a block of passes, and the masks read from them.

Unstratified passes have an integer per unit and pass, a lane; stratified ones an integer per unit
and 16 passes, a pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from mcdrop._masks.device_kernels import kept
from mcdrop._masks.numba_kernels import Booleans, Compiled, Floats
from mcdrop._masks.numpy_kernels import multiply
from mcdrop._masks.stratified import kept_passes

__all__ = ["Drawn", "DropPatterns", "Lanes", "times"]


class Drawn(Protocol):
    """The random bits of some successive passes."""

    @property
    def bits(self) -> Tensor:
        """The integers they are packed in."""

    def keep(self, first: int, out: Booleans) -> None:
        """Write True where a unit is kept, (passes, units), for passes from number `first` on."""

    def kept(self, first: int, count: int) -> Tensor:
        """Return the same for some passes on a device, where memory is not used again."""

    def times(self, first: int, x: Floats, scale: Any, out: Floats, kernels: Compiled) -> None:
        """Write ``x * keep * scale``, (passes, units); `x` has as many passes, or one for all."""


def times(
    drawn: Drawn, first: int, x: Floats, scale: Any, out: Floats, kernels: Compiled | None
) -> None:
    """Do what `Drawn.times` does, without compiled kernels if there are none."""
    if kernels is not None:
        drawn.times(first, x, scale, out, kernels)
        return

    def keep(passes: slice) -> Booleans:
        kept = np.empty((passes.stop - passes.start, out.shape[1]), dtype=np.bool_)
        drawn.keep(first + passes.start, kept)
        return kept

    multiply(x, keep, scale, out)


@dataclass(frozen=True)
class Lanes:
    """An integer for every unit and pass; the smallest are dropped.

    Attributes:
        bits: The integers, (passes, units).
        threshold: The least integer that keeps a unit.
    """

    bits: Tensor
    threshold: int

    @classmethod
    def of(cls, lanes: Tensor, numerator: int, bits: int) -> Lanes:
        """Drop at a rate of numerator / 2^bits."""
        # Lanes are signed, so the lowest of them start at -2^(bits - 1).
        return cls(lanes, numerator - 2 ** (bits - 1))

    def keep(self, first: int, out: Booleans) -> None:
        """See `Drawn`."""
        np.greater_equal(self.bits.numpy()[first : first + len(out)], self.threshold, out=out)

    def kept(self, first: int, count: int) -> Tensor:
        """See `Drawn`."""
        return self.bits[first : first + count] >= self.threshold

    def times(self, first: int, x: Floats, scale: Any, out: Floats, kernels: Compiled) -> None:
        """See `Drawn`."""
        kernels.drop_by_lane(x, self.bits[first:].numpy(), self.threshold, scale, out)


@dataclass(frozen=True)
class DropPatterns:
    """An integer for every unit and 16 passes, whose bits say which of these drop the unit.

    Attributes:
        bits: From `stratified.drop_patterns`, (passes / 16, units).
    """

    bits: Tensor

    def keep(self, first: int, out: Booleans) -> None:
        """See `Drawn`."""
        kept_passes(self.bits.numpy(), first, out)

    def kept(self, first: int, count: int) -> Tensor:
        """See `Drawn`."""
        return kept(self.bits, range(first, first + count))

    def times(self, first: int, x: Floats, scale: Any, out: Floats, kernels: Compiled) -> None:
        """See `Drawn`."""
        kernels.drop_by_pattern(x, self.bits.numpy(), first, scale, out)
