"""Streaming mean and variance over passes, merged chunk by chunk in float64."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments", "accumulation_dtype"]


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


class Moments:
    """Mean and sum of squared deviations of what was seen so far.

    Chan, Golub & LeVeque (1983): chunks are centred on their own mean before they are merged, so
    that a small spread around a large mean keeps its digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, chunk: Tensor) -> None:
        """Add passes, shape (s, ...)."""
        values = chunk.to(accumulation_dtype(chunk.device))
        n_new = values.shape[0]
        mean = values.mean(dim=0)
        squares = (values - mean).square().sum(dim=0)
        if self._mean is None or self._squares is None:
            self._mean, self._squares, self.count = mean, squares, n_new
            return
        total = self.count + n_new
        delta = mean - self._mean
        self._mean = self._mean + delta * (n_new / total)
        self._squares = self._squares + squares + delta.square() * (self.count * n_new / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """Mean over passes."""
        if self._mean is None:
            raise RuntimeError("Moments.mean: no passes have been added")
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over passes, divided by S - 1."""
        if self._squares is None:
            raise RuntimeError("Moments.variance: no passes have been added")
        return self._squares / (self.count - 1)
