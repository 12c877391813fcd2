"""What a forward pass leaves behind on the copy is undone, so that no pass sees the one before.

Models keep hidden states, step counters, cached masks and recorded activations on themselves. All
of that belongs to one call: after it, attributes are those of before, containers hold what they
held, and tensors have their old values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mcdrop._live.functorch import writes
from mcdrop._twin.copy import is_helper

__all__ = ["TwinState"]

_LISTS = (list, deque)
_SETS = (set,)


class TwinState:
    """The attributes of every module of a copy, as they were when it was made.

    Args:
        twin: The copy; its modules' attributes are restored, its parameters left alone.
    """

    def __init__(self, twin: nn.Module) -> None:
        self._modules = [(module.__dict__, dict(module.__dict__)) for module in twin.modules()]
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._tensors: dict[int, tuple[Tensor, int, Tensor]] = {}
        self._arrays: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        for _, attributes in self._modules:
            for value in attributes.values():
                self._note(value)

    def _note(self, value: Any) -> None:
        """Remember the content of containers and tensors, at any depth."""
        if isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and id(value) not in self._tensors:
                self._tensors[id(value)] = (value, _n_writes(value), value.detach().clone())
            return
        if id(value) in self._containers:
            return
        if isinstance(value, np.ndarray):
            self._arrays.append((value, value.copy()))
            return
        if is_helper(value):
            self._note(value.__dict__)
            return
        if isinstance(value, dict):
            self._containers[id(value)] = (value, dict(value))
        elif isinstance(value, (*_LISTS, *_SETS)):
            self._containers[id(value)] = (value, list(value))
        for item in _items(value):
            self._note(item)

    def has_written_tensors(self) -> bool:
        """Tell whether a tensor has been written to."""
        return any(self._is_written(*noted) for noted in self._tensors.values())

    def restore(self) -> None:
        """Undo what has changed."""
        for attributes, before in self._modules:
            if len(attributes) != len(before) or any(
                attributes.get(name, self) is not value for name, value in before.items()
            ):
                attributes.clear()
                attributes.update(before)
        for container, content in self._containers.values():
            if not _holds(container, content):
                container.clear()
                fill = container.extend if isinstance(container, _LISTS) else container.update
                fill(content)
        for array, values in self._arrays:
            array[...] = values
        for number, (tensor, seen, value) in list(self._tensors.items()):
            if self._is_written(tensor, seen, value):
                with torch.no_grad():
                    tensor.copy_(value)
                self._tensors[number] = (tensor, _n_writes(tensor), value)

    @staticmethod
    def _is_written(tensor: Tensor, seen: int, value: Tensor) -> bool:
        if tensor.is_inference():
            return not torch.equal(tensor, value)
        return writes(tensor) != seen


def _n_writes(tensor: Tensor) -> int:
    """Count the writes to a tensor; under inference mode torch does not."""
    return 0 if tensor.is_inference() else writes(tensor)


def _items(value: Any) -> Iterator[Any]:
    """Yield what a container holds; nothing for other values."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (tuple, *_LISTS)):
        yield from value


def _holds(container: Any, content: Any) -> bool:
    """Whether a container holds the same objects as before, in the same order."""
    if len(container) != len(content):
        return False
    if isinstance(container, dict):
        pairs = zip(container.items(), content.items(), strict=True)
        return all(key == other and a is b for (key, a), (other, b) in pairs)
    if isinstance(container, _SETS):
        return bool(container == set(content))
    return all(a is b for a, b in zip(container, content, strict=True))
