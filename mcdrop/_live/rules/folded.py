"""Functions that vmap runs pass by pass, in more kernels than needed, or not in every layout.

Those that treat rows separately get passes folded into the batch dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten, is_below_other_vmap
from mcdrop._live.rules.fused import deferred_linear
from mcdrop._trees import tensors

__all__ = ["folded_rules"]

# Functions, with the numbers of dimensions of an input that has a batch dimension. vmap takes
# normalization apart, and pools in one dimension with a kernel that keeps indices as well.
_WITH_ROWS: dict[TorchFunction, range] = {
    torch.adaptive_avg_pool1d: range(3, 4),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), range(3, 4)),
    F.batch_norm: range(2, 6),
}
# The argument of `F.batch_norm` that asks for statistics of the batch, which is that of one pass.
_TRAINING = 5

# Functions that ask for the layout of their input, which vmap answers for contiguous ones alone.
_OF_LAYOUT: tuple[TorchFunction, ...] = (F.group_norm, torch.group_norm, *aten("group_norm"))

# For fewer input elements the product is cheaper than the rule.
_LEAST_LINEAR = 2**14


def folded_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return {
        **dict.fromkeys(_WITH_ROWS, _folded),
        F.batch_norm: _batch_norm,
        **dict.fromkeys(_OF_LAYOUT, _contiguous),
        F.linear: _linear,
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
    if (bias is not None and call.is_batched(bias)) or is_below_other_vmap(x, call.index):
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
    x, *rest = args or (None,)
    if not isinstance(x, Tensor) or not call.is_batched(x) or x.ndim not in _WITH_ROWS[func]:
        return func(*args, **kwargs)
    differ = any(call.is_batched(each) for each in tensors((rest, kwargs)))
    if differ or is_below_other_vmap(x, call.index):
        return func(*args, **kwargs)

    def together(_: Sequence[bool], values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        passes = values[0]
        return (func(passes.flatten(0, 1), *rest, **kwargs).unflatten(0, passes.shape[:2]),)

    def alone(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (func(values[0], *rest, **kwargs),)

    (result,) = call.over_passes(together, alone, (x,))
    return result


def _batch_norm(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Fold passes where they do not share statistics of their own."""
    training = args[_TRAINING] if len(args) > _TRAINING else kwargs.get("training", False)
    return func(*args, **kwargs) if training else _folded(call, func, args, kwargs)


def _contiguous(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Run on a contiguous copy of what is batched; convolutions return other layouts."""
    if args and call.is_batched(args[0]):
        args = (args[0].contiguous(), *args[1:])
    return func(*args, **kwargs)
