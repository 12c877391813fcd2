"""Dropout put off until it is known what reads its result, which a linear layer need not have.

The model is handed a placeholder that is not a number anywhere. A linear layer is computed from
what was to be dropped out; for any other function the placeholder is exchanged for the dropped-out
values. What reads it unseen by the mode becomes NaN, and the plan of a prediction looks for that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop.stochastic.dropout_mask import DropoutMask

__all__ = ["Deferred", "DeferredError", "Held"]

# Attributes and methods that tell what a tensor is like and read nothing of it.
_DESCRIBING = {"device", "dim", "dtype", "is_cpu", "is_cuda", "is_floating_point", "layout"}
_DESCRIBING |= {"is_nested", "ndim", "numel", "requires_grad", "shape", "size"}


@dataclass(frozen=True)
class Held:
    """What a placeholder stands for.

    Attributes:
        x: What was to be dropped out.
        mask: Its mask, or None where every unit is kept.
        rate: The rate that the mask realises.
        drop: Returns the dropped-out values.
        version: Of `x`, which changes when it is written to.
    """

    x: Tensor
    mask: DropoutMask | None
    rate: float
    drop: Callable[[], Tensor]
    version: int

    def check(self) -> None:
        """Refuse to drop out what has been written to since."""
        if _version(self.x) != self.version:
            raise DeferredError("the model writes to a tensor after dropout of it")


class DeferredError(RuntimeError):
    """Dropout that was put off can no longer be done."""


def _version(x: Tensor) -> int:
    """Return how often a tensor has been written to."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x._version


class Deferred:
    """The placeholders that a model holds during one pass."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._dropped: dict[int, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def put(
        self, x: Tensor, mask: DropoutMask | None, rate: float, drop: Callable[[], Tensor]
    ) -> Tensor:
        """Return a placeholder; the arguments are those of `Held`."""
        placeholder = torch.full((), torch.nan, dtype=x.dtype, device=x.device).expand(x.shape)
        number = id(placeholder)
        self._held[number] = Held(x, mask, rate, drop, _version(x))
        weakref.finalize(placeholder, self._forget, number)
        return placeholder

    def _forget(self, number: int) -> None:
        """Let go of values whose placeholder the model has let go of."""
        self._held.pop(number, None)
        self._dropped.pop(number, None)

    def get(self, x: Tensor) -> Held | None:
        """Return what a tensor stands for, or None if it stands for itself."""
        held = self._held.get(id(x))
        if held is not None:
            held.check()
        return held

    def arguments(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a function, with values in place of the placeholders it reads."""
        owner = getattr(func, "__self__", None)
        if getattr(func, "__name__", "") in _DESCRIBING or (
            getattr(func, "__name__", "") == "__get__"
            and getattr(owner, "__name__", "") in _DESCRIBING
        ):
            return args, kwargs
        if func is F.linear and args and id(args[0]) not in self._dropped:
            return (args[0], *self._exchanged(args[1:])), self._exchanged(kwargs)
        return self._exchanged(args), self._exchanged(kwargs)

    def _exchanged(self, value: Any) -> Any:
        """Return nested values with placeholders exchanged."""
        if isinstance(value, Tensor):
            return self._values(value)
        if type(value) in (tuple, list):
            return type(value)(self._exchanged(each) for each in value)
        if type(value) is dict:
            return {name: self._exchanged(each) for name, each in value.items()}
        return value

    def _values(self, x: Tensor) -> Tensor:
        """Return what a placeholder stands for; always the same tensor, which may be written to."""
        number = id(x)
        if number not in self._held:
            return x
        if number not in self._dropped:
            held = self._held[number]
            held.check()
            self._dropped[number] = held.drop()
        return self._dropped[number]
