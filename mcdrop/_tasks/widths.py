"""Widths of intervals, in standard errors."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["HALF_WIDTH", "on_log_scale", "std_shift"]

HALF_WIDTH = 1.96
"""Half the width of a normal 95 % interval, in standard errors."""

# Longest interval on a log scale: a factor of exp(3).
_LONGEST = 3.0


def on_log_scale(whole: Tensor, error: Tensor) -> Tensor:
    """Widen the standard error of a positive quantity as its interval on a log scale demands.

    The upper end of exp(log(whole) +- 1.96 error / whole) is farther away than whole + 1.96 error,
    and few passes miss the true spread on that side.

    Args:
        whole: The quantity, at least 0.
        error: Its standard error.
    """
    relative = (HALF_WIDTH * error / whole.clamp_min(torch.finfo(whole.dtype).tiny)).clamp_max(
        _LONGEST
    )
    return torch.maximum(error, whole * torch.expm1(relative) / HALF_WIDTH)


def std_shift(variance: Tensor, missed: Tensor) -> Tensor:
    """Return how much a standard deviation grows with its variance."""
    return (variance + missed).sqrt() - variance.sqrt()
