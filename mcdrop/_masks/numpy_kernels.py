"""Fast arithmetic for masks on the CPU, where random numbers and masks cost more than the network.

NumPy compares 16-bit lanes and multiplies by booleans several times faster than torch does, and
buffers that are used again save asking the system for new pages; docs/performance.md has figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mcdrop._masks.device_kernels import scaled
from mcdrop._masks.numba_kernels import Booleans, Floats

__all__ = ["FLOATS", "Workspace", "keep_freed_pages", "multiply", "scaled_product", "tiles"]

# Buffers beyond this many bytes in all are allocated and freed as usual.
_WORKSPACE_BYTES = 64 * 2**20

# Elements worked on at once: they stay in the second-level cache between steps.
_TILE = 2**16

FLOATS = (torch.float32, torch.float64)
"""Types of values that NumPy and the compiled kernels multiply."""


@cache
def keep_freed_pages() -> None:
    """Let the memory of freed tensors serve the next ones, once per process.

    glibc hands freed memory above a threshold back to the system. Passes allocate tensors of the
    same sizes again and again, and asking for new pages took a third of the time of a small CNN.
    The threshold is twice the size of the largest block that has been freed, of up to 32 MiB: here
    one of nearly that size, which is never written to. The process keeps at most 62 MiB for it.

    Source:
        mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    np.empty(31 * 2**20, dtype=np.uint8)


class Workspace:
    """Buffers that are used again throughout a prediction, one for each key."""

    def __init__(self) -> None:
        keep_freed_pages()
        self._buffers: dict[object, Tensor] = {}
        self._bytes = 0

    def empty(self, key: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized CPU tensor; the same key gets the same memory.

        Args:
            key: Purpose of the buffer; its previous content is lost.
            shape: Shape of the tensor.
            dtype: Type of the tensor.
        """
        numel = math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.dtype != dtype or buffer.numel() < numel:
            buffer = torch.empty(numel, dtype=dtype, device="cpu")
            if self._bytes + buffer.nbytes > _WORKSPACE_BYTES:
                return buffer.view(shape)
            self._buffers[key] = buffer
            self._bytes += buffer.nbytes
        return (buffer if buffer.numel() == numel else buffer[:numel]).view(shape)

    def holds(self, x: Tensor) -> bool:
        """Tell whether a tensor lies in one of the buffers."""
        address = x.untyped_storage().data_ptr()
        return any(
            buffer.untyped_storage().data_ptr() == address for buffer in self._buffers.values()
        )


def tiles(length: int, per_item: int) -> Iterator[slice]:
    """Yield slices of some items, each small enough for the cache.

    Args:
        length: Number of items.
        per_item: Elements in one item.
    """
    step = max(1, _TILE // max(1, per_item))
    return (slice(first, min(first + step, length)) for first in range(0, length, step))


def multiply(x: Floats, keep: Callable[[slice], Booleans], scale: float, out: Floats) -> None:
    """Write ``x * keep * scale``.

    Args:
        x: Values, (passes, ...), or (1, ...) where they are the same for all passes.
        keep: Returns the mask of some passes; broadcasts.
        scale: Factor of the kept units.
        out: The product, (passes, ...).
    """
    scaled_before = 2 * x.size <= out.size
    if scaled_before:
        x = np.multiply(x, scale, dtype=x.dtype)
    for passes in tiles(len(out), out[0].size):
        product = out[passes]
        np.multiply(x[passes] if len(x) > 1 else x, keep(passes), out=product)
        if not scaled_before:
            np.multiply(product, scale, out=product, dtype=product.dtype)


def scaled_product(
    x: Tensor, keep: Tensor, scale: float, workspace: Workspace, key: object
) -> Tensor:
    """Return ``x * keep * scale`` without gradients, in a buffer of the workspace where that pays.

    On a device other than the CPU it is one launch.

    Args:
        x: Values; broadcasts with `keep`.
        keep: Boolean mask.
        scale: Factor of the kept units.
        workspace: Where results go.
        key: Key of the buffer.
    """
    if x.device.type != "cpu":
        return scaled(x, keep, scale)
    shape, fast = np.broadcast_shapes(x.shape, keep.shape), x.dtype in FLOATS
    if 4 * keep.numel() <= math.prod(shape):
        factor = keep.to(x.dtype).mul_(scale)
        if not fast:
            return x * factor
        return torch.mul(x, factor, out=workspace.empty(key, shape, x.dtype))
    if not fast:
        return (x * keep).mul_(scale)
    out = workspace.empty(key, shape, x.dtype)
    if out.ndim == 0 or out.numel() == 0:
        return torch.mul(x, keep, out=out).mul_(scale)
    values, flags = x.detach().numpy(), keep.numpy()
    # Broadcasting costs as much as a small product.
    if flags.shape != shape:
        flags = np.broadcast_to(flags, shape)
    if values.shape[1:] != shape[1:]:
        values = np.broadcast_to(values, shape)
    multiply(values, flags.__getitem__, scale, out.numpy())
    return out
