"""The arguments of one forward call: cut by rows, and copied so that a call may write to them."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._masks.rows import RowNumbers
from mcdrop._trees import mapped, tensors

__all__ = ["Batch", "owned"]


@dataclass(frozen=True)
class Batch:
    """Arguments of one forward call.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        n_rows: Size of dimension 0 if all tensors agree on it, else None.
        numbers: Numbers of the rows among all inputs; None if rows are not known.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    n_rows: int | None
    numbers: RowNumbers | None = None

    def tensors(self) -> list[Tensor]:
        """Return the tensors among the arguments, at any depth of tuples, lists and dicts."""
        return list(tensors((self.args, self.kwargs)))

    def why_no_rows(self) -> str:
        """Tell what keeps the arguments from being cut by rows, where `n_rows` is None."""
        found = self.tensors()
        if any(x.layout != torch.strided for x in found):
            return "a sparse tensor, of which no rows can be picked"
        return f"inputs of shapes {[tuple(x.shape) for x in found]}"

    def signature(self) -> Hashable:
        """Return what a plan depends on: shapes and types, and arguments that are not tensors."""
        return repr(mapped((self.args, self.kwargs), lambda x: (tuple(x.shape), x.dtype, x.device)))

    def take(self, rows: list[int]) -> Batch:
        """Return the arguments for rows by number; only where `n_rows` is known."""
        args, kwargs = mapped((self.args, self.kwargs), lambda x: x[rows])
        numbers = None if self.numbers is None else tuple(self.numbers[row] for row in rows)
        return Batch(args, kwargs, len(rows), numbers)

    def copied(self) -> Batch:
        """Return arguments of their own for one forward call, which may write to them.

        Tensors are cloned and containers rebuilt; other objects are cloned or deep-copied where
        they can be, such as graphs and key-value caches.
        """
        memo: dict[int, Any] = {}
        return replace(self, args=_own(self.args, memo), kwargs=_own(self.kwargs, memo))

    def disturbed(self) -> Batch:
        """Return the arguments with rows that differ, to tell them apart.

        Noise is added to floating point tensors; in others, all rows but the first are rotated.
        """
        generator = torch.Generator("cpu").manual_seed(0)

        def disturb(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return torch.cat([x[:1], x[1:].roll(1, dims=-1)]) if x.ndim > 1 else x
            noise = torch.randn(x.shape, generator=generator, device="cpu").to(x)
            return x + noise * (1 + x.abs().amax())

        args, kwargs = mapped((self.args, self.kwargs), disturb)
        return replace(self, args=args, kwargs=kwargs)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the arguments for some rows; only where `n_rows` is known."""

        def cut(x: Tensor) -> Tensor:
            return x[start:stop]

        args, kwargs = mapped((self.args, self.kwargs), cut)
        numbers = None if self.numbers is None else self.numbers[start:stop]
        return Batch(args, kwargs, min(stop, self.n_rows or 0) - start, numbers)

    def first(self, n: int) -> Batch:
        """Return the first rows, or all arguments if there are no more or rows are not known."""
        return self.rows(0, n) if self.n_rows is not None and self.n_rows > n else self


_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)

_CODE = (
    type,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.ModuleType,
    functools.partial,
)


def owned(value: Any) -> Any:
    """Return nested tensors, containers and objects as copies of their own."""
    return _own(value, {})


def _own(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy that shares nothing writable; the same object is copied once."""
    if isinstance(value, (*_PLAIN, *_CODE, nn.Module)):
        return value
    if id(value) not in memo:
        memo[id(value)] = _copied(value, memo)
    return memo[id(value)]


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) is dict:
        return {key: _own(item, memo) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_own(item, memo) for item in value))
    if type(value) in (tuple, list):
        return type(value)(_own(item, memo) for item in value)
    clone = getattr(value, "clone", None)
    try:
        return clone() if callable(clone) else copy.deepcopy(value)
    except (TypeError, RuntimeError, NotImplementedError, RecursionError):
        # What cannot be copied is passed on as it is.
        return value
