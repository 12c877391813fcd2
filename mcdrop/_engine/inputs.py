"""What a caller may pass as inputs, turned into batches of positional and keyword arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mcdrop._engine.arrays import as_tensor, is_array
from mcdrop._engine.batch import Batch
from mcdrop._live.functorch import is_transformed
from mcdrop._trees import mapped, tensors
from mcdrop.checks import require_readable
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

__all__ = ["InputReader", "Prepare"]

Prepare = Callable[[Any], Any]

_DATASET_BATCH = 256


@dataclass(frozen=True)
class InputReader:
    """Reads inputs for one model.

    Attributes:
        function: Public function to name in errors.
        model: The model; its forward signature says which inputs it takes.
        device: Device the inputs are moved to.
        dtype: Type that floating point tensors are cast to; None leaves tensors as they are, while
            NumPy and pandas data still take the type of the model's parameters.
        batch_size: Rows per batch, or None to pass inputs on whole.
        prepare: Turns an item of `inputs`, or all of it, into the model's inputs; or None.
    """

    function: str
    model: nn.Module
    device: torch.device
    dtype: torch.dtype | None
    batch_size: int | None
    prepare: Prepare | None = None

    def batches(self, inputs: Any) -> Iterator[Batch]:
        """Yield the batches of `inputs`, on the device.

        Raises:
            UnsupportedError: If `inputs` is of a kind that is not handled.
            ShapeError: If there are no rows, or rows cannot be split as asked.
            RangeError: If `batch_size` is given for inputs that come in batches.
        """
        if isinstance(inputs, Dataset):
            inputs = DataLoader(inputs, batch_size=self.batch_size or _DATASET_BATCH)
        elif _comes_in_batches(inputs) and self.batch_size is not None:
            raise RangeError.of(
                self.function,
                "batch_size",
                "be None for inputs that come in batches, such as a DataLoader",
                self.batch_size,
                "Set the batch size where the batches are made",
            )
        if not _comes_in_batches(inputs):
            whole = inputs if self.prepare is None else self.prepare(inputs)
            yield from self._split(self._checked(self._arguments(whole)))
            return
        n_batches = 0
        for item in _undisturbed(inputs):
            n_batches += 1
            chosen = self._without_targets(item) if self.prepare is None else self.prepare(item)
            yield self._placed(self._checked(self._arguments(chosen)))
        if n_batches == 0:
            raise self._empty(f"a {type(inputs).__name__} without batches")

    def count(self, inputs: Any) -> int | None:
        """Return the number of batches that `batches` will yield; None if that is unknown."""
        if isinstance(inputs, Dataset) or _comes_in_batches(inputs):
            try:
                size = len(inputs)
            except TypeError:
                return None
            is_dataset = isinstance(inputs, Dataset)
            return math.ceil(size / (self.batch_size or _DATASET_BATCH)) if is_dataset else size
        if self.batch_size is None:
            return 1
        whole = inputs if self.prepare is None else self.prepare(inputs)
        n_rows = self._arguments(whole).n_rows
        return None if n_rows is None else math.ceil(n_rows / self.batch_size)

    def _split(self, whole: Batch) -> Iterator[Batch]:
        """Yield `batch_size` rows at a time."""
        if self.batch_size is None:
            yield self._placed(whole)
            return
        if whole.n_rows is None:
            raise ShapeError.of(
                self.function,
                "inputs",
                "agree on dimension 0, to be split by batch_size",
                whole.why_no_rows(),
                "Leave batch_size out to pass the inputs on whole",
            )
        for start in range(0, whole.n_rows, self.batch_size):
            yield self._placed(whole.rows(start, start + self.batch_size))

    def _placed(self, batch: Batch) -> Batch:
        """Return the arguments on the device and in the asked floating point type."""

        def move(x: Tensor) -> Tensor:
            dtype = self.dtype if self.dtype is not None and x.is_floating_point() else None
            return x.to(device=self.device, dtype=dtype)

        args, kwargs = mapped((batch.args, batch.kwargs), move)
        args = tuple(value.to(self.device) if _is_movable(value) else value for value in args)
        return Batch(args, kwargs, batch.n_rows)

    def _without_targets(self, item: Any) -> Any:
        """Return the inputs of an item: inputs, (inputs,), (inputs, targets), (x, y, weights)."""
        if not isinstance(item, tuple | list):
            return item
        n_required = len(_required(self.model))
        if len(item) == 1 or n_required <= 1:
            return tuple(item[0]) if isinstance(item[0], list) else item[0]
        if len(item) == 2 and isinstance(item[0], tuple | list | Mapping):
            return item[0] if isinstance(item[0], Mapping) else tuple(item[0])
        raise UnsupportedError.of(
            self.function,
            "inputs",
            "yield inputs or (inputs, targets)",
            f"items of {len(item)} for a model that takes {n_required} inputs",
            "Say which are inputs: prepare=lambda item: item[:2]",
        )

    def _arguments(self, inputs: Any) -> Batch:
        """Sort `inputs` into positional and keyword arguments."""
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(inputs, Mapping):
            args, kwargs = self._from_mapping(inputs)
        elif isinstance(inputs, tuple):
            args = tuple(self._argument(value) for value in inputs)
        elif isinstance(inputs, Tensor) or is_array(inputs) or _is_movable(inputs):
            args = (self._argument(inputs),)
        else:
            raise UnsupportedError.of(
                self.function,
                "inputs",
                "be a Tensor, ndarray, DataFrame, tuple, dict, Dataset, DataLoader or batches",
                f"{type(inputs).__name__}",
                "Convert it to a tensor, or make it a tuple of positional arguments",
            )
        for x in tensors((args, kwargs)):
            if x.is_meta or x.is_nested:  # a model may well take sparse or quantized ones
                require_readable(self.function, "inputs", x)
        # A sparse tensor, such as the edges of a graph, cannot be indexed by a list of rows.
        sizes = {
            x.shape[0] if x.ndim and x.layout == torch.strided else None
            for x in tensors((args, kwargs))
        }
        n_rows = sizes.pop() if len(sizes) == 1 and not any(map(_is_movable, args)) else None
        return Batch(args, kwargs, n_rows)

    def _from_mapping(self, inputs: Mapping[Any, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return keyword arguments; or the mapping itself, if that is what the model takes.

        Keys that the model does not take, such as labels and ids, are left out as long as all
        that it requires are there.
        """
        given = {str(key): self._argument(value) for key, value in inputs.items()}
        known = _keywords(self.model)
        required = _required(self.model)
        if known is None or set(given) <= known:
            return (), given
        if len(required) == 1 and not set(given) & known:
            return (given,), {}
        missing = [name for name in required if name not in given]
        if missing:
            raise UnsupportedError.of(
                self.function,
                "inputs",
                f"hold the arguments {required} of {type(self.model).__name__}.forward",
                f"keys {sorted(given)}",
                "Rename the keys, or say what the model takes: prepare=lambda batch: ...",
            )
        return (), {name: value for name, value in given.items() if name in known}

    def _argument(self, value: Any) -> Any:
        """Make a tensor of NumPy and pandas data in the model's type; pass others on."""
        if not is_array(value):
            return value
        floating = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        dtype = self.dtype or next(floating, torch.get_default_dtype())
        looks_up = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in self.model.modules())
        return as_tensor(self.function, value, dtype, keep_integers=looks_up)

    def _checked(self, batch: Batch) -> Batch:
        """Refuse inputs without tensors or without rows."""
        found = batch.tensors()
        if not found and not any(map(_is_movable, batch.args)):
            raise UnsupportedError.of(
                self.function, "inputs", "hold at least one tensor", "none", "Pass the data"
            )
        if any(x.ndim and len(x) == 0 for x in found):
            raise self._empty(f"shapes {[tuple(x.shape) for x in found]}")
        if any(map(is_transformed, found)):
            raise UnsupportedError.of(
                self.function,
                "inputs",
                "be outside transforms of torch.func, as predictions have no gradients",
                "a tensor inside one",
                "Transform a draw from the posterior: mc.function(seed=0)",
            )
        return batch

    def _empty(self, found: str) -> Exception:
        return ShapeError.of(
            self.function, "inputs", "have at least one row", found, "Pass a non-empty batch"
        )


def _comes_in_batches(inputs: Any) -> bool:
    """Whether inputs are a DataLoader, a list of batches, or a generator of them."""
    return isinstance(inputs, DataLoader | list | Iterator)


def _undisturbed(loader: Any) -> Iterator[Any]:
    """Yield the items of a loader that draws its random numbers from a copy of the caller's state.

    A DataLoader takes a seed from torch's generator, or from its own, whenever it is read.
    """
    own = getattr(loader, "generator", None)
    generators = [torch.default_generator, *([own] if isinstance(own, torch.Generator) else [])]
    state = [generator.get_state() for generator in generators]
    items: Iterator[Any] | None = None
    while True:
        before = [generator.get_state() for generator in generators]
        _restore(generators, state)
        try:
            items = iter(loader) if items is None else items
            item = next(items)
        except StopIteration:
            return
        finally:
            state = [generator.get_state() for generator in generators]
            _restore(generators, before)
        yield item


def _restore(generators: list[torch.Generator], states: list[Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def _is_movable(value: Any) -> bool:
    """Whether a value is an object that moves to a device, such as a graph; not a tensor."""
    if isinstance(value, Tensor | nn.Module | type | Mapping | tuple | list):
        return False
    return callable(getattr(value, "to", None))


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(model.forward).parameters.values())


def _required(model: nn.Module) -> list[str]:
    """Return the parameters without default of the model's forward that may be positional."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    empty = inspect.Parameter.empty
    return [p.name for p in _parameters(model) if p.kind in kinds and p.default is empty]


def _keywords(model: nn.Module) -> set[str] | None:
    """Return the names that the model's forward takes as keywords; None if it takes any."""
    parameters = _parameters(model)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in kinds}
