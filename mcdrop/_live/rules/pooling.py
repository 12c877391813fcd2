"""Max pooling as elementwise maxima of strided views, for all passes of a chunk.

torch's kernel for the CPU takes one window at a time unless channels lie innermost. The maxima of
whole rows, and of whole columns of these, are the same numbers several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten

__all__ = ["pooling_rules"]

# For longer windows torch's kernel may be as fast: views are read once for each of their entries.
_LONGEST = 3
# The same where channels lie innermost.
_LONGEST_STRIDED = 2

Pair = tuple[int, int]


def pooling_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return dict.fromkeys((F.max_pool2d, torch.max_pool2d, *aten("max_pool2d")), _max_pool)


def _max_pool(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Take the maximum over the rows of every window, then over its columns."""
    x, *rest = args or (None,)
    # Of equal entries torch's kernel gives the whole gradient to the first.
    if not isinstance(x, Tensor) or torch.is_grad_enabled() or not call.is_batched(x):
        return func(*args, **kwargs)
    window = _window(*rest, **kwargs)
    longest = _LONGEST if x.is_contiguous() else _LONGEST_STRIDED
    if window is None or x.device.type != "cpu" or max(window[0]) > longest:
        return func(*args, **kwargs)
    for dim, size, step in zip((-2, -1), *window, strict=True):
        if x.shape[dim] < size:
            return func(*args, **kwargs)
        x = _largest(x, dim, size, step)
    return x


def _window(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Pair, Pair] | None:
    """Return size and stride of a window; None where that is not all that is asked."""
    if ceil_mode or return_indices or _pair(padding) != (0, 0) or _pair(dilation) != (1, 1):
        return None
    size = _pair(kernel_size)
    # torch takes an empty list for the size, too.
    return size, size if stride is None or stride == [] else _pair(stride)


def _pair(value: int | Sequence[int]) -> Pair:
    """Return a number for rows and one for columns."""
    return (value[0], value[-1]) if isinstance(value, Sequence) else (value, value)


def _largest(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """Return the maximum of every `size` entries along a dimension."""
    end = (x.shape[dim] - size) // step * step + 1
    after: Any = [slice(None)] * (-1 - dim)
    views = (x[(..., slice(start, start + end, step), *after)] for start in range(size))
    return reduce(torch.maximum, views)
