"""Placeholders: dropout, and the linear layers after it, deferred until their result is read.

What comes before a linear layer need not be written to memory, and where all rows share a mask,
dropped units need not be computed; but that is known only after dropout has been called. So the
model is handed placeholders, tensors of NaN. A function without a rule for them is given values
instead. Code that bypasses the mode reads NaN; every chunk is checked for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mcdrop._masks.mask import DropoutMask
from mcdrop._trees import mapped

__all__ = [
    "Deferred",
    "DeferredError",
    "Dropped",
    "Linear",
    "Mapped",
    "Placeholders",
    "chain",
    "describes",
]

# Attributes and methods that tell what a tensor is like and read nothing of it.
_DESCRIBING = {"device", "dim", "dtype", "is_cpu", "is_cuda", "is_floating_point", "layout"}
_DESCRIBING |= {"is_nested", "ndim", "numel", "requires_grad", "shape", "size"}


class DeferredError(RuntimeError):
    """Deferred dropout can no longer be computed."""


@dataclass(eq=False)
class Dropped:
    """Deferred dropout.

    Attributes:
        x: The values to drop units out of.
        mask: Which units, or None where every unit is kept.
        rate: The rate that the mask realizes.
        writes: Counts how often a tensor has been written to.
    """

    x: Tensor | Linear | Mapped
    mask: DropoutMask | None
    rate: float
    writes: Callable[[Tensor], int]
    _n_writes: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.x, Tensor):
            self._n_writes = self.writes(self.x)

    def check(self) -> None:
        """Refuse to drop units of a tensor that has been written to since."""
        if isinstance(self.x, Tensor) and self.writes(self.x) != self._n_writes:
            raise DeferredError("the model writes to a tensor after dropout of it")


@dataclass(eq=False)
class Linear:
    """A deferred linear layer of dropped-out values."""

    x: Dropped
    weight: Tensor
    bias: Tensor | None


@dataclass(eq=False)
class Mapped:
    """A deferred elementwise function of a linear layer's result.

    Attributes:
        x: The result.
        function: The function, which may write to its argument.
    """

    x: Linear | Mapped
    function: Callable[[Tensor], Tensor]


Deferred: TypeAlias = Dropped | Linear | Mapped
Elementwise: TypeAlias = Callable[[Tensor], Tensor]


def chain(last: Linear | Mapped) -> tuple[Tensor, list[tuple[Linear, list[Elementwise]]]]:
    """Return the input of the first dropout, and the layers from there on.

    Args:
        last: What comes last.

    Returns:
        The values, and every layer with the functions that come after it.
    """
    layers: list[tuple[Linear, list[Elementwise]]] = []
    functions: list[Elementwise] = []
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


class Placeholders:
    """The placeholders that a model holds during one forward call.

    Args:
        compute: Returns the values of something deferred, given the forward call.
        accepted_by: Functions whose rules take a placeholder as their first argument.

    Attributes:
        accepted_by: As given.
        widest: Numbers per pass in the largest tensor that has been read.
    """

    def __init__(
        self,
        compute: Callable[[Any, Deferred], Tensor],
        accepted_by: frozenset[Callable[..., Any]],
    ) -> None:
        self.accepted_by = accepted_by
        self.widest = 0
        self._compute = compute
        self._deferred: dict[int, Deferred] = {}
        self._read: dict[int, Tensor] = {}
        self._held: dict[int, weakref.ref[Tensor]] = {}
        self._nans: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._deferred)

    def put(self, deferred: Deferred, like: Tensor, units: int | None = None) -> Tensor:
        """Return a placeholder.

        Args:
            deferred: What it stands for.
            like: A tensor of its shape, its type and on its device.
            units: Its last dimension, if that is another.
        """
        shape = like.shape if units is None else (*like.shape[:-1], units)
        placeholder = self._nan(like).expand(shape)
        if placeholder.numel() == 1:
            # Of its own: unlike several entries that are one in memory, it could be written to.
            placeholder = placeholder.clone()
        number = id(placeholder)
        self._deferred[number] = deferred
        self._held[number] = weakref.ref(placeholder, lambda _: self._forget(number))
        return placeholder

    def _nan(self, like: Tensor) -> Tensor:
        """Return a single NaN, the same for all placeholders of a type."""
        kind = like.dtype, like.device
        if kind not in self._nans:
            self._nans[kind] = torch.full((), torch.nan, dtype=like.dtype, device=like.device)
        return self._nans[kind]

    def replace(self, placeholder: Tensor, deferred: Deferred) -> Tensor:
        """Let a placeholder stand for something else, as when it is written to."""
        self._deferred[id(placeholder)] = deferred
        return placeholder

    def _forget(self, number: int) -> None:
        """Free values whose placeholder the model no longer holds."""
        del self._deferred[number], self._held[number]
        self._read.pop(number, None)

    def deferred(self, x: Tensor) -> Deferred | None:
        """Return what a tensor stands for, or None if it has been read or is no placeholder."""
        return None if id(x) in self._read else self._deferred.get(id(x))

    def read(self, value: Any, call: Any) -> Any:
        """Return nested tuples, lists and dicts with values in place of placeholders.

        Args:
            value: A placeholder, or what may contain some.
            call: The forward call.
        """
        return mapped(value, lambda x: self._values(x, call))

    def _values(self, x: Tensor, call: Any) -> Tensor:
        """Return the values of a placeholder, always the same tensor; any other tensor as it is."""
        number = id(x)
        if number not in self._deferred:
            return x
        if number not in self._read:
            self._read[number] = self._compute(call, self._deferred[number])
            self.widest = max(self.widest, x.numel())
        return self._read[number]


def describes(func: Callable[..., Any]) -> bool:
    """Tell whether a function says what a tensor is like and reads nothing of it."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name in _DESCRIBING
