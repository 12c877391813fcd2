"""Random numbers that a model draws itself, served from streams keyed by seed, pass and call.

A prediction then leaves the caller's random state alone, the seed covers these numbers too, and
DropPath and its like, which draw their own, run for all passes of a chunk at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import Span

__all__ = ["random_rules"]

_FACTORIES = (torch.rand, torch.randn, torch.randint, torch.randperm)
_LIKE: dict[TorchFunction, TorchFunction] = {
    torch.rand_like: torch.rand,
    torch.randn_like: torch.randn,
    torch.randint_like: torch.randint,
}
_OF_TENSORS = (torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, Tensor.bernoulli)
_IN_PLACE = (
    Tensor.bernoulli_,
    Tensor.cauchy_,
    Tensor.exponential_,
    Tensor.geometric_,
    Tensor.log_normal_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.uniform_,
)
# Tensors that a module fills with random numbers in place have to be batched from the start.
_EMPTY = (torch.empty, torch.empty_like, Tensor.new_empty)


def random_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return {
        **dict.fromkeys(_FACTORIES, _factory),
        **dict.fromkeys(_LIKE, _like),
        **dict.fromkeys(_OF_TENSORS, _of_tensor),
        **dict.fromkeys(_IN_PLACE, _in_place),
        **dict.fromkeys(_EMPTY, _empty),
    }


def _factory(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Draw a new tensor; a generator that the model passes is respected."""
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    template = torch.empty((), device=kwargs.get("device"))
    return _drawn(call, lambda generator, _: func(*args, **_with(kwargs, generator)), template)


def _like(call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Draw a tensor like another, through the factory that takes a generator."""
    x, *rest = args or (kwargs.pop("input"),)
    kwargs = {"dtype": x.dtype, "device": x.device, **kwargs}
    kwargs.pop("memory_format", None)
    return _factory(call, _LIKE[func], (*rest, tuple(x.shape)), kwargs)


def _of_tensor(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Draw with parameters given as a tensor."""
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    if not args or not isinstance(args[0], Tensor):
        return _factory(call, func, args, kwargs)
    x, *rest = args
    return _drawn(call, lambda generator, each: func(each, *rest, **_with(kwargs, generator)), x)


def _in_place(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Fill a tensor with random numbers."""
    x: Tensor = args[0]
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    rest = args[1:]

    def fill(generator: torch.Generator, like: Tensor) -> Tensor:
        return func(like.clone(), *rest, **_with(kwargs, generator))

    # vmap refuses this for a tensor that is not batched, so no pass loses its numbers.
    return x.copy_(_drawn(call, fill, x))


def _with(kwargs: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Put a generator in the place of one that is None."""
    return {**kwargs, "generator": generator}


def _empty(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Make an empty tensor batched over passes, for a gated module to fill."""
    fresh: Tensor = func(*args, **kwargs)
    if call.index is None or not call.seen.open_gates:
        return fresh
    (batched,) = call.over_passes(
        lambda _, tensors: (tensors[0].expand(call.span.count, *fresh.shape).clone(),),
        lambda tensors: (tensors[0],),
        (fresh,),
    )
    return batched


def _drawn(call: Call, draw: Any, x: Tensor) -> Tensor:
    """Draw for each pass of the chunk with a generator of its own, keyed by pass and call.

    Args:
        call: The forward call.
        draw: ``draw(generator, x)`` for one pass.
        x: Parameters of the distribution, or any tensor on the device to draw on.
    """
    order = call.seen.random_calls
    call.seen.random_calls += 1
    rows: tuple[RowDim, ...] = ()
    if call.shares_masks and call.rows is not None and order < len(call.rows.random_calls):
        rows = call.rows.random_calls[order]
    if not call.opened and ((rows and not call.seen.open_gates) or not call.shares_masks):
        call.seen.drawn_by_batch.append(f"{call.seen.module_path}:random numbers")

    def one(number: int, each: Tensor) -> Tensor:
        span = Span(call.span.batch, 0 if call.opened else number)
        drawn: Tensor = draw(call.source.generator(order, span, x.device), each)
        for row in rows if call.seen.open_gates else ():
            drawn = drawn.narrow(row.dim, 0, 1).expand_as(drawn)
        return drawn

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        values = tensors[0].expand(call.span.count, *tensors[0].shape[1:])
        numbers = range(call.span.first, call.span.first + call.span.count)
        return (torch.stack([one(*each) for each in zip(numbers, values, strict=True)]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (one(call.span.first, tensors[0]),)

    (result,) = call.over_passes(together, alone, (x,))
    call.seen.random_shapes.append(tuple(result.shape))
    return result
