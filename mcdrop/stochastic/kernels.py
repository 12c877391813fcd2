"""Fast arithmetic for masks on the CPU, where random numbers and masks cost more than the network.

NumPy compares 16-bit lanes and multiplies by booleans several times faster than torch does, and
buffers that are used again save asking the system for new pages; docs/performance.md has figures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["Workspace", "compare", "scaled_product"]

# Buffers beyond this many bytes in all are allocated and freed as usual.
_WORKSPACE_BYTES = 64 * 2**20

_NUMPY_TYPES = (torch.float32, torch.float64)


class Workspace:
    """Buffers that live as long as a prediction, one for each site."""

    def __init__(self) -> None:
        self._buffers: dict[object, Tensor] = {}
        self._bytes = 0

    def empty(self, key: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised CPU tensor, the same memory for the same key.

        Args:
            key: What the buffer is for; its last content is lost.
            shape: Shape of the tensor.
            dtype: Type of the tensor.
        """
        numel = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.dtype != dtype or buffer.numel() < numel:
            buffer = torch.empty(numel, dtype=dtype)
            if self._bytes + buffer.nbytes > _WORKSPACE_BYTES:
                return buffer.view(shape)
            self._buffers[key] = buffer
            self._bytes += buffer.nbytes
        return buffer[:numel].view(shape)

    def holds(self, x: Tensor) -> bool:
        """Tell whether a tensor lies in one of the buffers."""
        address = x.untyped_storage().data_ptr()
        return any(
            buffer.untyped_storage().data_ptr() == address for buffer in self._buffers.values()
        )


def compare(lanes: Tensor, threshold: int, out: Tensor) -> None:
    """Write ``lanes >= threshold`` to `out`."""
    if lanes.device.type == "cpu":
        np.greater_equal(lanes.numpy(), threshold, out=out.numpy())
    else:
        torch.ge(lanes, threshold, out=out)


def scaled_product(
    x: Tensor, keep: Tensor, scale: float, workspace: Workspace, key: object
) -> Tensor:
    """Return ``x * keep * scale`` without gradients, in a buffer of the workspace where that pays.

    Args:
        x: Values; broadcasts with `keep`.
        keep: Boolean mask.
        scale: What the survivors are multiplied by.
        workspace: Where results go.
        key: Names the buffer.
    """
    shape = torch.broadcast_shapes(x.shape, keep.shape)
    fast = x.device.type == "cpu" and x.dtype in _NUMPY_TYPES
    if 4 * keep.numel() <= math.prod(shape):
        factor = keep.to(x.dtype).mul_(scale)
        if not fast:
            return x * factor
        return torch.mul(x, factor, out=workspace.empty(key, shape, x.dtype))
    if not fast:
        return torch.where(keep, x * scale, 0)
    out = workspace.empty(key, shape, x.dtype)
    np.multiply(x.detach().numpy(), keep.numpy(), out=out.numpy())
    return out.mul_(scale)
