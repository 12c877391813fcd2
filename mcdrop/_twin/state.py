"""What a forward pass leaves behind on the copy is undone, so that no pass sees the one before.

Models keep hidden states, step counters, cached masks and recorded activations on themselves. All
of that belongs to one call: after it, attributes are those of before, containers hold what they
held, and tensors and arrays have their old values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._live.functorch import writes
from mcdrop._live.memory import address
from mcdrop._twin.copy import Made
from mcdrop._twin.objects import attributes_of

__all__ = ["TwinState"]


class TwinState:
    """What a copy holds for itself, as it was when its hooks were set.

    Args:
        made: What the copier made.
        own: Parameters of the copy's own, which are restored as well.

    Attributes:
        by_content: Whether to compare the values of tensors, where torch's count of writes cannot
            be relied on.
    """

    def __init__(self, made: Made, own: Iterable[Tensor] = ()) -> None:
        self.by_content = False
        # Most containers are empty dicts of hooks: for these a look at their length is enough.
        self._empty: list[Any] = []
        self._containers: list[tuple[Any, Any]] = []
        self._slots: list[tuple[Any, dict[str, Any]]] = []
        for container in made.containers:
            self._note(container)
        for value in made.objects:
            self._note_object(value)
        self._kept = {id(value) for value in (*made.containers, *made.objects)}
        self._arrays = [(array, array.copy()) for array in made.arrays if array.flags.writeable]
        self._ranges = [_range(array) for array, _ in self._arrays]
        self._places = set(map(address, made.tensors)) - {0}
        self._tensors = [(x, x.detach().clone()) for x in (*made.tensors, *own)]
        self._n_writes = [_n_writes(tensor) for tensor, _ in self._tensors]

    def _note(self, container: Any) -> None:
        if container:
            self._containers.append((container, container.copy()))
        else:
            self._empty.append(container)

    def _note_object(self, value: Any) -> None:
        """Remember the attributes of an object that is no module."""
        held = getattr(value, "__dict__", None)
        if held is not None:
            self._note(held)
        in_slots = {k: v for k, v in attributes_of(value).items() if k not in (held or ())}
        if in_slots:
            self._slots.append((value, in_slots))

    def renew(self, tensors: Iterable[Tensor]) -> None:
        """Take over the values that tensors of the model hold now, in the order of the copy's."""
        with torch.no_grad():
            for number, (value, (own, kept)) in enumerate(
                zip(tensors, self._tensors, strict=False)
            ):
                # A device would have to be waited for to compare.
                if _lies_with(value, kept) and torch.equal(value, kept):
                    continue
                own.copy_(value)
                kept.copy_(value)
                self._n_writes[number] = _n_writes(own)

    def has_written_tensors(self) -> bool:
        """Tell whether a tensor has been written to."""
        return any(map(self._is_written, range(len(self._tensors))))

    def shares(self, output: Any) -> bool:
        """Tell whether to restore would change what the model returned."""
        if self.has_written_tensors():
            return True
        if isinstance(output, Tensor):
            begin = address(output)
            return begin in self._places or any(a <= begin < b for a, b in self._ranges)
        if id(output) in self._kept:
            return True
        if isinstance(output, dict):
            return any(map(self.shares, output.values()))
        return isinstance(output, list | tuple) and any(map(self.shares, output))

    def restore(self) -> None:
        """Undo what has changed."""
        for container in self._empty:
            if container:
                container.clear()
        for container, content in self._containers:
            if not _same(container, content):
                container.clear()
                fill = container.extend if isinstance(container, list | deque) else container.update
                fill(content)
        for value, in_slots in self._slots:
            for name, item in in_slots.items():
                object.__setattr__(value, name, item)
        for array, numbers in self._arrays:
            array[...] = numbers
        for number, (tensor, values) in enumerate(self._tensors):
            if self._is_written(number):
                with torch.no_grad():
                    if tensor.shape == values.shape:
                        tensor.copy_(values)
                    else:
                        tensor.data = values.clone()
                self._n_writes[number] = _n_writes(tensor)

    def _is_written(self, number: int) -> bool:
        tensor, values = self._tensors[number]
        if tensor.shape != values.shape:
            return True
        if self.by_content or tensor.is_inference():
            return not torch.equal(tensor, values)
        return writes(tensor) != self._n_writes[number]


def _lies_with(value: Tensor, kept: Tensor) -> bool:
    return value.device.type == kept.device.type == "cpu" and value.dtype == kept.dtype


def _range(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Return where the memory of an array begins and ends."""
    begin = array.__array_interface__["data"][0]
    return begin, begin + array.nbytes


def _n_writes(tensor: Tensor) -> int:
    """Count the writes to a tensor; under inference mode torch does not."""
    return 0 if tensor.is_inference() else writes(tensor)


def _same(container: Any, content: Any) -> bool:
    """Whether a container holds what it held: the same objects, or equal ones that are no tensors.

    Comparison takes identical items as equal, so that it asks for the value of a tensor only
    where there is another one now.
    """
    try:
        return bool(container == content)
    except (RuntimeError, ValueError, TypeError):
        return False
