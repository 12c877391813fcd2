"""Compares what modules are given and return in two runs, and puts one in place of the other."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mcdrop._live.functorch import flattened

__all__ = ["Agreement", "agreement", "kept", "merged"]

Agreement = Literal["equal", "close", "differs"]

# A flag that changes values by less goes unnoticed; averages over a draw round differently.
_RELATIVE, _OF_LARGEST = 1e-3, 2e-4


def kept(tree: Any) -> Any:
    """Return nested containers with their tensors cloned."""
    values, rebuild, _ = flattened(tree)
    return rebuild([x.detach().clone() if isinstance(x, Tensor) else x for x in values])


def merged(now: Any, expected: Any) -> Any:
    """Return the tensors expected among the other objects of now; None if they do not match."""
    values, rebuild, structure = flattened(now)
    others, _, other_structure = flattened(expected)
    if structure != other_structure:
        return None
    pairs = zip(values, others, strict=True)
    return rebuild([y.clone() if isinstance(y, Tensor) else x for x, y in pairs])


def agreement(now: Any, expected: Any) -> Agreement:
    """Compare the tensors of two trees: "equal", "close" or "differs"."""
    ours, theirs = (
        [x.detach() for x in flattened(tree)[0] if isinstance(x, Tensor)]
        for tree in (now, expected)
    )
    if len(ours) != len(theirs):
        return "differs"
    found = [_of_two(x, y) for x, y in zip(ours, theirs, strict=True)]
    return "differs" if "differs" in found else "close" if "close" in found else "equal"


def _of_two(x: Tensor, y: Tensor) -> Agreement:
    if x.shape != y.shape or x.dtype != y.dtype:
        return "differs"
    if x.layout != torch.strided or x.is_nested:
        return "equal"
    if torch.equal(x, y):
        return "equal"
    if not x.is_floating_point():
        return "differs"
    x, y = x.float(), y.float()
    largest = float(y.nan_to_num(0, 0, 0).abs().amax().clamp_min(1e-6))
    close = torch.allclose(x, y, rtol=_RELATIVE, atol=_OF_LARGEST * largest, equal_nan=True)
    return "close" if close else "differs"
