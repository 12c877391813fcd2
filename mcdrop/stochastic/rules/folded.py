"""Functions without a batching rule of their own in torch, which would run pass by pass.

They treat rows alike, so the passes become further rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop.stochastic.live import Function, Pass, Rule, over_passes

__all__ = ["folded_rules"]

# Function and the number of dimensions of an input that has rows.
_WITH_ROWS: dict[Function, int] = {torch.adaptive_avg_pool1d: 3}


def folded_rules() -> dict[Function, Rule]:
    """Return the rules by function."""
    return dict.fromkeys(_WITH_ROWS, _folded)


def _folded(current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Run once for all passes."""
    x, *rest = args
    if current.index is None or x.ndim != _WITH_ROWS[func]:
        return func(*args, **kwargs)

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if not batched[0]:
            return None
        passes = tensors[0]
        return (func(passes.flatten(0, 1), *rest, **kwargs).unflatten(0, passes.shape[:2]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(tensors[0], *rest, **kwargs),)

    (result,) = over_passes(current, together, alone, (x,))
    return result
