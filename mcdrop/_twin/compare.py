"""Compares what modules are given and return in two runs, and puts one in place of the other."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mcdrop._live.functorch import flattened

__all__ = ["Agreement", "agreement", "dropped_out", "kept", "merged"]

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


def dropped_out(now: Any, expected: Any) -> Literal["thinned", "scaled", ""]:
    """Tell whether a tensor of a tree is the one expected after inverted dropout.

    Returns:
        "thinned" if some items are zero and the others larger than expected by one factor,
        "scaled" if all are larger by one factor, else an empty string.
    """
    ours, theirs = (
        [x.detach() for x in flattened(tree)[0] if isinstance(x, Tensor)]
        for tree in (now, expected)
    )
    found = {_thinned(x, y) for x, y in zip(ours, theirs, strict=False)}
    return "thinned" if "thinned" in found else "scaled" if "scaled" in found else ""


def _thinned(x: Tensor, y: Tensor) -> Literal["thinned", "scaled", ""]:
    for each in (x, y):
        if not each.is_floating_point() or each.layout != torch.strided or each.is_nested:
            return ""
    if x.shape != y.shape:
        return ""
    x, y = x.double().flatten(), y.double().flatten()
    was_zero = y == 0
    is_kept = (x != 0) & ~was_zero
    if bool((x[was_zero] != 0).any()) or not bool(is_kept.any()):
        return ""
    factors = x[is_kept] / y[is_kept]
    factor = factors.median()
    if factor <= 1 + _RELATIVE or not torch.allclose(
        factors, factor.expand_as(factors), rtol=_RELATIVE
    ):
        return ""
    return "thinned" if bool((~is_kept & ~was_zero).any()) else "scaled"


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
