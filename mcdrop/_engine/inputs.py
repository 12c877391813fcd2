"""What a caller may pass as inputs, turned into batches of positional and keyword arguments."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mcdrop._trees import mapped, tensors
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

__all__ = ["Batch", "InputReader", "owned"]

_DATASET_BATCH = 256


@dataclass(frozen=True)
class Batch:
    """Arguments of one forward call.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        n_rows: Size of dimension 0 if all tensors agree on it, else None.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    n_rows: int | None

    def tensors(self) -> list[Tensor]:
        """Return the tensors among the arguments, at any depth of tuples, lists and dicts."""
        return list(tensors((self.args, self.kwargs)))

    def signature(self) -> Hashable:
        """Return what a plan depends on: shapes and types, and arguments that are not tensors."""
        return repr(mapped((self.args, self.kwargs), lambda x: (tuple(x.shape), x.dtype, x.device)))

    def take(self, rows: list[int]) -> Batch:
        """Return the arguments for rows by number; only where `n_rows` is known."""
        args, kwargs = mapped((self.args, self.kwargs), lambda x: x[rows])
        return Batch(args, kwargs, len(rows))

    def copied(self) -> Batch:
        """Return arguments of their own for one forward call, which may write to them.

        Tensors are cloned and containers rebuilt; other objects are cloned or deep-copied where
        they can be, such as graphs and key-value caches.
        """
        memo: dict[int, Any] = {}
        return Batch(_own(self.args, memo), _own(self.kwargs, memo), self.n_rows)

    def disturbed(self) -> Batch:
        """Return the arguments with noise added to floating point tensors, to tell rows apart."""
        generator = torch.Generator().manual_seed(0)

        def disturb(x: Tensor) -> Tensor:
            if not x.is_floating_point():
                return x
            noise = torch.randn(x.shape, generator=generator).to(x)
            return x + noise * (1 + x.abs().amax())

        args, kwargs = mapped((self.args, self.kwargs), disturb)
        return Batch(args, kwargs, self.n_rows)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the arguments for some rows; only where `n_rows` is known."""

        def cut(x: Tensor) -> Tensor:
            return x[start:stop]

        args, kwargs = mapped((self.args, self.kwargs), cut)
        return Batch(args, kwargs, min(stop, self.n_rows or 0) - start)


@dataclass(frozen=True)
class InputReader:
    """Reads inputs for one model.

    Attributes:
        function: Public function to name in errors.
        model: The model; its forward signature says how many inputs it needs.
        device: Device the tensors are moved to.
        dtype: Type that floating point tensors are cast to; None leaves tensors as they are, while
            NumPy and pandas data still take the type of the model's parameters.
        batch_size: Rows per batch, or None to pass inputs on whole.
    """

    function: str
    model: nn.Module
    device: torch.device
    dtype: torch.dtype | None
    batch_size: int | None

    def batches(self, inputs: Any) -> Iterator[Batch]:
        """Yield the batches of `inputs`, on the device.

        Raises:
            UnsupportedError: If `inputs` is of a kind that is not handled.
            ShapeError: If there are no rows, or rows cannot be split as asked.
            RangeError: If `batch_size` is given for a DataLoader, which has its own.
        """
        if isinstance(inputs, Dataset):
            inputs = DataLoader(inputs, batch_size=self.batch_size or _DATASET_BATCH)
        elif isinstance(inputs, DataLoader) and self.batch_size is not None:
            raise RangeError.of(
                self.function,
                "batch_size",
                "be None for a DataLoader, which brings its own",
                self.batch_size,
                "Set the batch size on the DataLoader",
            )
        if isinstance(inputs, DataLoader):
            n_batches = 0
            for item in inputs:
                n_batches += 1
                yield self._placed(self._checked(self._arguments(self._without_targets(item))))
            if n_batches == 0:
                raise self._empty("a DataLoader without batches")
            return
        yield from self._split(self._checked(self._arguments(inputs)))

    def count(self, inputs: Any) -> int | None:
        """Return the number of batches that `batches` will yield; None if that is unknown."""
        if isinstance(inputs, DataLoader | Dataset):
            try:
                size = len(inputs)  # type: ignore[arg-type]
            except TypeError:
                return None
            per_batch = 1 if isinstance(inputs, DataLoader) else self.batch_size or _DATASET_BATCH
            return math.ceil(size / per_batch)
        if self.batch_size is None:
            return 1
        n_rows = self._arguments(inputs).n_rows
        return None if n_rows is None else math.ceil(n_rows / self.batch_size)

    def _split(self, whole: Batch) -> Iterator[Batch]:
        """Yield `batch_size` rows at a time."""
        if self.batch_size is None:
            yield self._placed(whole)
            return
        if whole.n_rows is None:
            shapes = [tuple(x.shape) for x in whole.tensors()]
            raise ShapeError.of(
                self.function,
                "inputs",
                "agree on dimension 0, to be split by batch_size",
                f"shapes {shapes}",
                "Leave batch_size out to pass the inputs on whole",
            )
        for start in range(0, whole.n_rows, self.batch_size):
            yield self._placed(whole.rows(start, start + self.batch_size))

    def _placed(self, batch: Batch) -> Batch:
        """Return the arguments on the device and in the asked floating point type."""

        def move(x: Tensor) -> Tensor:
            dtype = self.dtype if self.dtype is not None and x.is_floating_point() else None
            return x.to(device=self.device, dtype=dtype, non_blocking=True)

        args, kwargs = mapped((batch.args, batch.kwargs), move)
        return Batch(args, kwargs, batch.n_rows)

    def _without_targets(self, item: Any) -> Any:
        """Return the inputs of a DataLoader item: (inputs, targets), (inputs,) or inputs."""
        if not isinstance(item, tuple | list):
            return item
        n_required = _required_positional(self.model)
        if len(item) == 1 or (len(item) == 2 and n_required <= 1):
            inputs = item[0]
            return tuple(inputs) if isinstance(inputs, list) else inputs
        if len(item) == 2 and isinstance(item[0], tuple | list | Mapping):
            return item[0] if isinstance(item[0], Mapping) else tuple(item[0])
        raise UnsupportedError.of(
            self.function,
            "inputs",
            "yield inputs or (inputs, targets)",
            f"items of {len(item)} for a model that takes {n_required} inputs",
            "Let the data set return ((a, b), y), or a dict of keyword arguments",
        )

    def _arguments(self, inputs: Any) -> Batch:
        """Sort `inputs` into positional and keyword arguments."""
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(inputs, Mapping):
            kwargs = {str(key): self._argument(value) for key, value in inputs.items()}
        elif isinstance(inputs, tuple):
            args = tuple(self._argument(value) for value in inputs)
        elif isinstance(inputs, Tensor | np.ndarray) or _is_frame(inputs):
            args = (self._argument(inputs),)
        else:
            raise UnsupportedError.of(
                self.function,
                "inputs",
                "be a Tensor, ndarray, DataFrame, tuple, dict, Dataset or DataLoader",
                f"{type(inputs).__name__}",
                "Convert it to a tensor, or make it a tuple of positional arguments",
            )
        sizes = {x.shape[0] if x.ndim else None for x in tensors((args, kwargs))}
        n_rows = sizes.pop() if len(sizes) == 1 else None
        return Batch(args, kwargs, n_rows)

    def _argument(self, value: Any) -> Any:
        """Make a tensor of NumPy and pandas data in the model's type; pass others on."""
        if _is_frame(value):
            value = value.to_numpy()
            if value.dtype == object:
                raise UnsupportedError.of(
                    self.function,
                    "inputs",
                    "hold numbers",
                    "a DataFrame with columns of type object",
                    "Encode text and categories as numbers first",
                )
        if isinstance(value, np.ndarray):
            tensor = torch.as_tensor(np.ascontiguousarray(value))
            if not tensor.is_floating_point():
                return tensor
            floating = (p.dtype for p in self.model.parameters() if p.is_floating_point())
            return tensor.to(self.dtype or next(floating, torch.get_default_dtype()))
        return value

    def _checked(self, batch: Batch) -> Batch:
        """Refuse inputs without tensors or without rows."""
        tensors = batch.tensors()
        if not tensors:
            raise UnsupportedError.of(
                self.function, "inputs", "hold at least one tensor", "none", "Pass the data"
            )
        if any(x.numel() == 0 for x in tensors):
            raise self._empty(f"shapes {[tuple(x.shape) for x in tensors]}")
        return batch

    def _empty(self, found: str) -> Exception:
        return ShapeError.of(
            self.function, "inputs", "have at least one row", found, "Pass a non-empty batch"
        )


def _is_frame(value: Any) -> bool:
    """Whether `value` is a pandas object, without importing pandas."""
    return hasattr(value, "to_numpy") and hasattr(value, "iloc")


_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def owned(value: Any) -> Any:
    """Return nested tensors, containers and objects as copies of their own."""
    return _own(value, {})


def _own(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy that shares nothing writable; the same object is copied once."""
    if isinstance(value, (*_PLAIN, type, nn.Module)) or callable(value):
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


def _required_positional(model: nn.Module) -> int:
    """Count the positional parameters without default of the model's forward."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters: Iterable[inspect.Parameter] = inspect.signature(model.forward).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
