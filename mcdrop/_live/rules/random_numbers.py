"""Random numbers that a model draws itself: served from streams of our own.

So a prediction leaves the caller's random state alone, the seed covers these numbers too, and
DropPath and its like, which draw their own, can run for all passes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.mode import Function, Pass, Rule, over_passes
from mcdrop._masks.source import Span

__all__ = ["random_rules"]

_FACTORIES = (torch.rand, torch.randn, torch.randint, torch.randperm)
_LIKE: dict[Function, Function] = {
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
# Tensors that a module fills with random numbers in place have to differ by pass from the start.
_EMPTY = (torch.empty, torch.empty_like, Tensor.new_empty)


def random_rules() -> dict[Function, Rule]:
    """Return the rules by function."""
    return {
        **dict.fromkeys(_FACTORIES, _factory),
        **dict.fromkeys(_LIKE, _like),
        **dict.fromkeys(_OF_TENSORS, _of_tensor),
        **dict.fromkeys(_IN_PLACE, _in_place),
        **dict.fromkeys(_EMPTY, _empty),
    }


def _factory(
    current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Draw a fresh tensor; a generator of the caller's own is respected."""
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    template = torch.empty((), device=kwargs.get("device"))
    return _drawn(
        current, lambda generator, _: func(*args, **kwargs, generator=generator), template
    )


def _like(current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Draw a tensor like another, through the factory that takes a generator."""
    x, *rest = args or (kwargs.pop("input"),)
    kwargs = {"dtype": x.dtype, "device": x.device, **kwargs}
    kwargs.pop("memory_format", None)
    return _factory(current, _LIKE[func], (*rest, tuple(x.shape)), kwargs)


def _of_tensor(
    current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Draw with parameters given as a tensor."""
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    if not args or not isinstance(args[0], Tensor):
        return _factory(current, func, args, kwargs)
    x, *rest = args
    return _drawn(
        current, lambda generator, each: func(each, *rest, **kwargs, generator=generator), x
    )


def _in_place(
    current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Fill a tensor with random numbers."""
    x: Tensor = args[0]
    if kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    rest = args[1:]

    def fill(generator: torch.Generator, like: Tensor) -> Tensor:
        return func(like.clone(), *rest, **kwargs, generator=generator)

    # Under vmap this fails for a tensor that does not differ by pass, rather than lose numbers.
    return x.copy_(_drawn(current, fill, x))


def _empty(current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Make an empty tensor that differs by pass, where a gated module is about to fill it."""
    fresh: Tensor = func(*args, **kwargs)
    if current.index is None or not current.open_gates:
        return fresh
    (batched,) = over_passes(
        current,
        lambda _, tensors: (tensors[0].expand(current.span.count, *fresh.shape).clone(),),
        lambda tensors: (tensors[0],),
        (fresh,),
    )
    return batched


def _drawn(current: Pass, draw: Any, x: Tensor) -> Tensor:
    """Draw for each pass of the chunk with a generator of its own, keyed by pass and call.

    Args:
        current: The pass.
        draw: ``draw(generator, x)`` for one pass.
        x: Parameters of the distribution, or any tensor on the device to draw on.
    """
    call = current.random_calls
    current.random_calls += 1
    rows = () if current.shared is None else current.shared.random_calls[call]

    def one(number: int, each: Tensor) -> Tensor:
        span = Span(current.span.batch, 0 if current.opened else number)
        drawn: Tensor = draw(current.source.generator(call, span, x.device), each)
        for row in rows if current.open_gates else ():
            drawn = drawn.narrow(row.dim, 0, 1).expand_as(drawn)
        return drawn

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        values = tensors[0].expand(current.span.count, *tensors[0].shape[1:])
        numbers = range(current.span.first, current.span.first + current.span.count)
        return (torch.stack([one(*each) for each in zip(numbers, values, strict=True)]),)

    def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (one(current.span.first, tensors[0]),)

    (result,) = over_passes(current, together, alone, (x,))
    current.random_shapes.append(tuple(result.shape))
    return result
