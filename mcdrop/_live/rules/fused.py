"""Linear layers and elementwise functions after a deferred dropout are deferred with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._fusion.layers import Layer, run_layers
from mcdrop._fusion.placeholders import Deferred, Dropped, Linear, Mapped, chain
from mcdrop._fusion.shared_masks import run_shared_layers
from mcdrop._live.call import Call, Rule, TorchFunction

__all__ = ["ACCEPTING", "compute", "deferred_linear", "mapped_rules"]

# Elementwise functions, called with the tensor first and numbers after it.
_ELEMENTWISE: tuple[TorchFunction, ...] = (
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.selu,
    F.celu,
    F.gelu,
    F.silu,
    F.mish,
    F.softplus,
    F.hardtanh,
    F.hardswish,
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    Tensor.relu,
    Tensor.tanh,
    Tensor.sigmoid,
)

# Inside a chain nothing else reads their argument, so they may overwrite it.
_OVERWRITING: dict[TorchFunction, TorchFunction] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), torch.relu_),
    **dict.fromkeys((torch.tanh, Tensor.tanh), torch.tanh_),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid), torch.sigmoid_),
}

ACCEPTING: frozenset[TorchFunction] = frozenset({*_ELEMENTWISE, F.linear, F.dropout, torch.dropout})
"""Functions whose rules take a placeholder as their first argument."""


def mapped_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return dict.fromkeys(_ELEMENTWISE, _mapped)


def _mapped(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Defer a function if its argument is deferred."""
    if not call.placeholders or not args:
        return func(*args, **kwargs)
    x, *numbers = args
    node = call.placeholders.deferred(x)
    # True by position may be `inplace`.
    if not isinstance(node, Linear | Mapped) or any(number is True for number in numbers):
        return func(call.read(x), *numbers, **kwargs)
    options = {name: value for name, value in kwargs.items() if name != "inplace"}
    function = _OVERWRITING.get(func, func)
    mapped = Mapped(node, lambda values: function(values, *numbers, **options))
    if kwargs.get("inplace"):
        return call.placeholders.replace(x, mapped)
    return call.placeholders.put(mapped, x)


def deferred_linear(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """Defer a linear layer if the dropout before it is deferred; return None if not."""
    node = call.placeholders.deferred(x) if call.placeholders else None
    if not isinstance(node, Dropped) or call.placeholders is None:
        return None
    parameters = [weight] if bias is None else [weight, bias]
    if any(each.dtype != x.dtype or call.is_batched(each) for each in parameters):
        return None
    units = weight.shape[0]
    shapes = (units, x.shape[-1]), (units,)
    if any(each.shape != shape for each, shape in zip(parameters, shapes, strict=False)):
        return None
    return call.placeholders.put(Linear(node, weight, bias), x, units)


def compute(call: Call, node: Deferred) -> Tensor:
    """Return the values of something deferred."""
    if isinstance(node, Dropped):
        return _drop(call, node)
    x, layers = chain(node)
    run = [
        Layer(each.x.mask, each.x.rate, each.weight, each.bias, tuple(functions))
        for each, functions in layers
        if each.x.mask is not None
    ]
    if not run:
        return _opened(call, layers)

    def together(_: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        one_per_unit = all(layer.mask.is_one_per_unit for layer in run)
        return ((run_shared_layers if one_per_unit else run_layers)(tensors[0], run),)

    (result,) = call.over_passes(together, _unbatched, (x,))
    return result


def _opened(call: Call, layers: Sequence[tuple[Linear, list[TorchFunction]]]) -> Tensor:
    """Run layers with every unit kept."""
    values = _drop(call, layers[0][0].x)
    for layer, functions in layers:
        values = F.linear(values, layer.weight, layer.bias)
        for function in functions:
            values = function(values)
    return values


def _drop(call: Call, node: Dropped) -> Tensor:
    """Drop units of values in memory."""
    node.check()
    values = node.x if isinstance(node.x, Tensor) else compute(call, node.x)
    mask = node.mask

    def together(_: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = tensors[0]
        if mask is None:
            # Batched over passes although they are alike, so that in-place writes are batched too.
            return (x.expand(call.span.count, *x.shape[1:]).clone(),)
        return (mask.times(x, 1.0 / (1.0 - node.rate)),)

    (result,) = call.over_passes(together, _unbatched, (values,))
    return result


def _unbatched(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    raise RuntimeError("dropout was deferred in a single pass")
