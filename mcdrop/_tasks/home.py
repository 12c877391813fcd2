"""Where passes are accumulated: on the device that ran them or, where they are small, on the host.

Moments, errors and bounds of a few hundred numbers are about a hundred small operations. On a GPU
each of them is a kernel, whose launch costs more than the arithmetic does on a CPU. So small
outputs are copied to the host as they come, and the result goes back in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.groups import Rates
from mcdrop._engine.linearization import LinearPart
from mcdrop._tasks.accumulate import Accumulator
from mcdrop.prediction.base import Prediction

__all__ = ["Home"]

PredictionT = TypeVar("PredictionT", bound=Prediction)

# Numbers in the first chunk of passes up to which the host accumulates: the arithmetic there takes
# a few nanoseconds a number, a hundred launches half a millisecond.
_SMALL = 2**16


class Home:
    """The device on which the passes of one prediction are accumulated.

    The first chunk decides, so that results of all batches lie together.

    Attributes:
        device: That device; None before the first chunk.
    """

    def __init__(self) -> None:
        self.device: torch.device | None = None
        self._origin: torch.device | None = None

    def accumulating(
        self, make: Callable[[int, bool, Rates], Accumulator[PredictionT]]
    ) -> Callable[[int, bool, Rates], Accumulator[PredictionT]]:
        """Return what makes accumulators that bring their passes home."""
        return lambda *given: _AtHome(self, make(*given))

    def bring(self, chunk: Tensor, linear: LinearPart | None) -> tuple[Tensor, LinearPart | None]:
        """Return passes, and their linear part, where they are accumulated.

        Args:
            chunk: Outputs, (s, n, ...).
            linear: Their linear part, if that is known.
        """
        if self.device is None:
            self._origin = chunk.device
            self.device = chunk.device if chunk.numel() > _SMALL else torch.device("cpu")
        if chunk.device == self.device:
            return chunk, linear
        return chunk.to(self.device), None if linear is None else linear.to(self.device)

    def send(self, prediction: PredictionT) -> PredictionT:
        """Return a prediction on the device that ran its passes."""
        if self._origin is None or self.device == self._origin:
            return prediction
        tensors = prediction._tensors()
        moved = iter(_moved(list(tensors.values()), self._origin))
        return prediction._map(lambda *_: next(moved))


@dataclass(frozen=True)
class _AtHome(Generic[PredictionT]):
    """An accumulator whose passes are brought home first; see `Accumulator`."""

    home: Home
    inner: Accumulator[PredictionT]

    def update(self, chunk: Tensor, linear: LinearPart | None = None) -> None:
        self.inner.update(*self.home.bring(chunk, linear))

    def rows(self, rows: Tensor) -> _AtHome[PredictionT]:
        return _AtHome(self.home, self.inner.rows(rows.to(self.home.device)))

    def result(self) -> PredictionT:
        return self.inner.result()


def _moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors to a device, all of one type together: a copy waits longer than it takes."""
    found: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(x.dtype for x in tensors):
        some = [(number, x) for number, x in enumerate(tensors) if x.dtype == dtype]
        together = torch.cat([x.reshape(-1) for _, x in some]).to(device)
        parts = together.split([x.numel() for _, x in some])
        found |= {n: part.view(x.shape) for (n, x), part in zip(some, parts, strict=True)}
    return [found[number] for number in range(len(tensors))]
