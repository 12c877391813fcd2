"""Dropout, and the linear layers between dropouts, put off until their result is read.

What comes before a linear layer need not be written down, and where all rows share a mask, units
that are dropped need not even be computed, but that is known only when dropout is called. So the
model is handed placeholders, which are not numbers anywhere. A function that does not know them is
given values in their place; what reads them unseen by the mode becomes NaN, and the plan of a
prediction, and every chunk, look for that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mcdrop._masks.mask import DropoutMask

__all__ = ["Deferred", "DeferredError", "Dropped", "Lazy", "Linear", "Mapped", "chain", "describes"]

# Attributes and methods that tell what a tensor is like and read nothing of it.
_DESCRIBING = {"device", "dim", "dtype", "is_cpu", "is_cuda", "is_floating_point", "layout"}
_DESCRIBING |= {"is_nested", "ndim", "numel", "requires_grad", "shape", "size"}


class DeferredError(RuntimeError):
    """Dropout that was put off can no longer be done."""


@dataclass(eq=False)
class Dropped:
    """Values to drop units out of.

    Attributes:
        x: The values.
        mask: Which units, or None where every unit is kept.
        rate: The rate that the mask realizes.
    """

    x: Tensor | Linear | Mapped
    mask: DropoutMask | None
    rate: float
    _version: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.x, Tensor):
            self._version = _version(self.x)

    def check(self) -> None:
        """Refuse to drop out what has been written to since."""
        if isinstance(self.x, Tensor) and _version(self.x) != self._version:
            raise DeferredError("the model writes to a tensor after dropout of it")


@dataclass(eq=False)
class Linear:
    """A linear layer of dropped-out values."""

    x: Dropped
    weight: Tensor
    bias: Tensor | None


@dataclass(eq=False)
class Mapped:
    """A function of every element of a linear layer's result.

    Attributes:
        x: The result.
        function: The function, which may write to its argument.
    """

    x: Linear | Mapped
    function: Callable[[Tensor], Tensor]


Lazy: TypeAlias = Dropped | Linear | Mapped
Function: TypeAlias = Callable[[Tensor], Tensor]


def _version(x: Tensor) -> int:
    """Return how often a tensor has been written to."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x._version


def chain(last: Linear | Mapped) -> tuple[Tensor, list[tuple[Linear, list[Function]]]]:
    """Return what the first dropout was given, and the layers from there on.

    Args:
        last: What comes last.

    Returns:
        The values, and every layer with the functions that come after it.
    """
    layers: list[tuple[Linear, list[Function]]] = []
    functions: list[Function] = []
    node: Tensor | Linear | Mapped = last
    while not isinstance(node, Tensor):
        if isinstance(node, Mapped):
            functions.insert(0, node.function)
            node = node.x
            continue
        layers.insert(0, (node, functions))
        functions = []
        node.x.check()
        node = node.x.x
    return node, layers


class Deferred:
    """The placeholders that a model holds during one pass.

    Args:
        compute: Returns the values of what was put off, given the pass.

    Attributes:
        widest: Numbers per pass in the largest tensor that has been read.
    """

    def __init__(self, compute: Callable[[Any, Lazy], Tensor]) -> None:
        self.widest = 0
        self._compute = compute
        self._nodes: dict[int, Lazy] = {}
        self._read: dict[int, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def put(self, node: Lazy, like: Tensor, units: int | None = None) -> Tensor:
        """Return a placeholder.

        Args:
            node: What it stands for.
            like: A tensor of its shape, its type and on its device.
            units: Its last dimension, if that is another.
        """
        shape = like.shape if units is None else (*like.shape[:-1], units)
        placeholder = torch.full((), torch.nan, dtype=like.dtype, device=like.device).expand(shape)
        number = id(placeholder)
        self._nodes[number] = node
        weakref.finalize(placeholder, self._forget, number)
        return placeholder

    def replace(self, placeholder: Tensor, node: Lazy) -> Tensor:
        """Let a placeholder stand for something else, as when it is written to."""
        self._nodes[id(placeholder)] = node
        return placeholder

    def _forget(self, number: int) -> None:
        """Let go of values whose placeholder the model has let go of."""
        self._nodes.pop(number, None)
        self._read.pop(number, None)

    def node(self, x: Tensor) -> Lazy | None:
        """Return what a tensor stands for, or None if it has been read or stands for itself."""
        return None if id(x) in self._read else self._nodes.get(id(x))

    def read(self, value: Any, current: Any) -> Any:
        """Return nested tuples, lists and dicts with values in place of placeholders.

        Args:
            value: What may be a placeholder, or contain some.
            current: The pass.
        """
        if isinstance(value, Tensor):
            return self._values(value, current)
        if type(value) in (tuple, list):
            return type(value)(self.read(each, current) for each in value)
        if type(value) is dict:
            return {name: self.read(each, current) for name, each in value.items()}
        return value

    def _values(self, x: Tensor, current: Any) -> Tensor:
        """Return the values of a placeholder, always the same tensor, or any other tensor."""
        number = id(x)
        if number not in self._nodes:
            return x
        if number not in self._read:
            self._read[number] = self._compute(current, self._nodes[number])
            self.widest = max(self.widest, x.numel())
        return self._read[number]


def describes(func: Callable[..., Any]) -> bool:
    """Tell whether a function says what a tensor is like and reads nothing of it."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name in _DESCRIBING
