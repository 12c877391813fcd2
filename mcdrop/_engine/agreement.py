"""Whether two runs of a model returned the same, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["agree", "tolerances"]

# Rows that show the scale of a column; with fewer, that of all columns has to do.
_ENOUGH_ROWS = 8


def tolerances(output: Tensor, relative: float) -> Tensor:
    """Return how far a run may be off, (1, ..., columns, ...) or of one number.

    Columns may be of different sizes, such as means and variances; an error that is small beside
    the largest column can be large beside another. Rounding goes with the largest.

    Args:
        output: What the model returned, (n, columns), (n, steps, columns) or (n, columns, ...).
        relative: Tolerance relative to the largest number of a column.
    """
    sizes = output.detach().abs().nan_to_num(posinf=0.0)
    if output.numel() == 0:
        return sizes.new_zeros(())
    largest = sizes.amax()
    if output.ndim >= 2 and len(output) >= _ENOUGH_ROWS:
        column = 1 if output.ndim > 3 else output.ndim - 1
        sizes = sizes.amax(dim=[d for d in range(output.ndim) if d != column], keepdim=True)
    else:
        sizes = largest
    rounding = 64 * torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    return relative * sizes + rounding * largest + 1e-30


def agree(output: Tensor, other: Tensor, relative: float) -> bool:
    """Tell whether two outputs of one shape agree; infinities and NaN have to be the same."""
    found = (output == other) | (output.isnan() & other.isnan())
    found |= (output - other).abs() <= tolerances(other, relative)
    return bool(found.all())
