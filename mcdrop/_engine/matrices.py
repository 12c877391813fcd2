"""Matrices that are made once and kept on every device that asks for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["KeptMatrix"]


class KeptMatrix:
    """A small matrix known in advance.

    Args:
        entries: The matrix, (m, k).
    """

    def __init__(self, entries: npt.NDArray[np.float64]) -> None:
        self._entries = entries
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """Return it with the type of a tensor, on its device."""
        place = x.dtype, x.device
        found = self._copies.get(place)
        if found is None:
            # What is kept has to serve calls outside inference mode as well.
            with torch.inference_mode(mode=False):
                found = torch.from_numpy(self._entries).to(x.device, x.dtype)
            self._copies[place] = found
        return found

    def times(self, values: Tensor) -> Tensor:
        """Multiply along the first dimension: (k, ...) to (m, ...)."""
        product = torch.mm(self.like(values), values.reshape(len(values), -1))
        return product.view(-1, *values.shape[1:])
