"""Functions that vmap runs pass by pass, in more kernels than needed, or not in every layout.

Those that treat rows separately get passes folded into the batch dimension.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten
from mcdrop._live.rules.fused import deferred_linear

__all__ = ["folded_rules"]

# Functions, with the number of dimensions of an input that has a batch dimension.
_WITH_ROWS: dict[TorchFunction, int] = {torch.adaptive_avg_pool1d: 3}

# Functions that ask for the layout of their input, which vmap answers for contiguous ones alone.
_OF_LAYOUT: tuple[TorchFunction, ...] = (F.group_norm, torch.group_norm, *aten("group_norm"))

_BATCH_NORM = tuple(inspect.signature(F.batch_norm).parameters)

# For fewer input elements the product is cheaper than the rule.
_LEAST_LINEAR = 2**14


def folded_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return {
        **dict.fromkeys(_WITH_ROWS, _folded),
        **dict.fromkeys(_OF_LAYOUT, _contiguous),
        F.linear: _linear,
        F.batch_norm: _batch_norm,
    }


def _linear(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Multiply all passes and add the bias in one kernel; vmap uses two."""
    x, weight, bias = _operands(*args, **kwargs)
    if call.last is not None and call.last.takes(x):
        return call.last.linear(x, weight, bias, call.over_passes)
    placeholder = deferred_linear(call, x, weight, bias)
    if placeholder is not None:
        return placeholder
    x = call.read(x)
    if not call.is_batched(x) or call.is_batched(weight):
        return func(x, weight, bias)
    if bias is not None and call.is_batched(bias):
        return func(x, weight, bias)
    is_small = x.numel() * call.span.count < _LEAST_LINEAR
    # vmap takes a linear layer apart before autocast sees it, so that one keeps its type.
    if x.ndim < 2 or (is_small and not torch.is_autocast_enabled(x.device.type)):
        return func(x, weight, bias)

    def together(_: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        passes = tensors[0]
        return (func(passes.flatten(0, -2), weight, bias).unflatten(0, passes.shape[:-1]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(tensors[0], weight, bias),)

    (result,) = call.over_passes(together, alone, (x,))
    return result


def _batch_norm(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Normalize all passes by the running statistics in one kernel; vmap copies, and uses three."""
    bound = dict(zip(_BATCH_NORM, args, strict=False)) | kwargs
    x = bound.pop("input")
    given = [value for value in bound.values() if isinstance(value, Tensor)]
    if x.ndim < 2 or bound.get("training", False) or any(map(call.is_batched, given)):
        return func(x, **bound)

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if not batched[0]:
            return None
        passes = tensors[0]
        return (func(passes.flatten(0, 1), **bound).unflatten(0, passes.shape[:2]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(tensors[0], **bound),)

    (result,) = call.over_passes(together, alone, (x,))
    return result


def _operands(
    input: Tensor,  # noqa: A002  torch's own names
    weight: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the operands of a linear layer, given by position or by name."""
    return input, weight, bias


def _folded(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Fold passes into the batch dimension and run once."""
    x, *rest = args
    if call.index is None or x.ndim != _WITH_ROWS[func]:
        return func(*args, **kwargs)

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if not batched[0]:
            return None
        passes = tensors[0]
        return (func(passes.flatten(0, 1), *rest, **kwargs).unflatten(0, passes.shape[:2]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(tensors[0], *rest, **kwargs),)

    (result,) = call.over_passes(together, alone, (x,))
    return result


def _contiguous(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Run on a contiguous copy of what is batched; convolutions return other layouts."""
    if args and call.is_batched(args[0]):
        args = (args[0].contiguous(), *args[1:])
    return func(*args, **kwargs)
