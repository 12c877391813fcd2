"""Packing and padding of sequences: torch reads lengths as numbers, which vmap forbids.

Both functions leave trailing dimensions alone, so passes are moved there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import packing_functions

__all__ = ["packed_rules"]


def packed_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return dict.fromkeys(packing_functions(), _reordered)


def _reordered(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Reorder the first argument; sizes or lengths, the second result, are shared by all passes."""
    if call.index is None:
        return func(*args, **kwargs)
    x, *rest = args

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if not batched[0]:
            return None
        return (func(tensors[0].movedim(0, -1), *rest, **kwargs)[0].movedim(-1, 0),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(tensors[0], *rest, **kwargs)[0],)

    (reordered,) = call.over_passes(together, alone, (x,))
    sizes = func(torch.zeros(*x.shape, device=x.device), *rest, **kwargs)[1]
    return reordered, sizes
