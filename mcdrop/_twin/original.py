"""What a model held when it was copied, to tell later whether the copy still stands for it.

Copying a small model costs more than running it, so copies are kept between predictions. What a
copy shares with the model, such as parameters, it always sees as it is now. What it has for itself
is compared by identity: every dict, list, cell and object that was copied must hold what it held.
"""

from __future__ import annotations

import types
import weakref
from collections import deque
from operator import is_
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mcdrop._twin.objects import attributes_of

__all__ = ["Original", "content_of"]

# Python code of the class itself makes the copies of these, or they hold what has no name.
_COPIES = ("__copy__", "__reduce__", "__reduce_ex__", "__getstate__")
_WRITTEN_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_LIVES_ON = ("cpu", "cuda", "mps")


class Original:
    """The parts of a model that its copy has for itself.

    Attributes:
        is_opaque: Whether there is a part that may change unseen, so that no copy can be kept.
        tensors: Tensors that are no parameters, in the order in which they were copied. Their
            values may change; whoever keeps the copy has to renew them.
    """

    def __init__(self) -> None:
        self.is_opaque = False
        self.tensors: list[Tensor] = []
        self._modules: list[nn.Module] = []
        self._kinds: list[type] = []
        self._forward: dict[type, Any] = {}
        self._empty: list[Any] = []
        self._dicts: list[tuple[dict[Any, Any], tuple[Any, ...], tuple[Any, ...]]] = []
        self._sequences: list[tuple[Any, tuple[Any, ...]]] = []
        self._sets: list[tuple[set[Any], frozenset[int], tuple[Any, ...]]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._references: list[tuple[weakref.ref[Any], int]] = []
        self._objects: list[tuple[Any, dict[str, Any]]] = []
        self._arrays: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._shapes: list[tuple[Tensor, tuple[object, ...]]] = []

    def add_module(self, module: nn.Module) -> None:
        """Remember a module, its class and what it holds."""
        kind = type(module)
        self._modules.append(module)
        self._kinds.append(kind)
        self._forward[kind] = getattr(kind, "forward", None)
        self.add_container(module.__dict__)

    def add_container(self, container: Any) -> None:
        """Remember what a dict, list, deque or set holds."""
        if not container:
            self._empty.append(container)
        elif isinstance(container, dict):
            self._dicts.append((container, tuple(container), tuple(container.values())))
        elif isinstance(container, set):
            self._sets.append((container, frozenset(map(id, container)), tuple(container)))
        elif isinstance(container, list | deque):
            self._sequences.append((container, tuple(container)))

    def add_tensor(self, tensor: Tensor) -> None:
        """Remember a tensor or parameter."""
        if tensor.layout != torch.strided or tensor.device.type not in _LIVES_ON:
            self.is_opaque = True
            return
        self._shapes.append((tensor, _kind_of(tensor)))
        if not isinstance(tensor, nn.Parameter):
            self.tensors.append(tensor)

    def add_array(self, array: npt.NDArray[Any]) -> None:
        """Remember the numbers of an array."""
        self._arrays.append((array, array.copy()))

    def add_function(self, function: types.FunctionType) -> None:
        """Remember what a function closes over."""
        self._cells += [(cell, content_of(cell)) for cell in function.__closure__ or ()]

    def add_reference(self, reference: weakref.ref[Any]) -> None:
        """Remember what a weak reference points to."""
        self._references.append((reference, id(reference())))

    def add_object(self, value: Any) -> None:
        """Remember the attributes of an object; one that holds more than these is opaque."""
        self.is_opaque |= not _is_plain(type(value))
        self._objects.append((value, attributes_of(value)))

    def is_unchanged(self) -> bool:
        """Tell whether all of it holds what it held; tensors may have other values."""
        return (
            not self.is_opaque
            and not any(self._empty)
            and all(map(is_, map(type, self._modules), self._kinds))
            and all(map(_holds, self._dicts))
            and all(_is_same(found, held) for found, held in self._sequences)
            and all(frozenset(map(id, found)) == held for found, held, _ in self._sets)
            and all(getattr(kind, "forward", None) is f for kind, f in self._forward.items())
            and all(content_of(cell) is held for cell, held in self._cells)
            and all(id(reference()) == held for reference, held in self._references)
            and all(_has(value, held) for value, held in self._objects)
            and all(_kind_of(tensor) == kind for tensor, kind in self._shapes)
            and all(_is_equal(found, held) for found, held in self._arrays)
        )


def content_of(cell: types.CellType) -> Any:
    """Return what a cell holds; None for an empty one."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_plain(kind: type) -> bool:
    """Whether the attributes of an object of a class are all that it holds."""
    if kind is types.SimpleNamespace:
        return True
    in_python = (base is object or base.__flags__ & _WRITTEN_IN_PYTHON for base in kind.__mro__)
    return all(in_python) and not any(_overrides(kind, name) for name in _COPIES)


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(object, name, None)


def _kind_of(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _holds(remembered: tuple[dict[Any, Any], tuple[Any, ...], tuple[Any, ...]]) -> bool:
    """Whether a dict holds the same objects in the same order; training flags do not matter."""
    found, names, held = remembered
    if len(found) != len(names) or tuple(found) != names:
        return False
    if all(map(is_, found.values(), held)):
        return True
    pairs = zip(names, found.values(), held, strict=True)
    return all(a is b or name == "training" for name, a, b in pairs)


def _is_same(found: Any, held: tuple[Any, ...]) -> bool:
    return len(found) == len(held) and all(map(is_, found, held))


def _has(value: Any, held: dict[str, Any]) -> bool:
    found = attributes_of(value)
    return found.keys() == held.keys() and all(found[name] is held[name] for name in held)


def _is_equal(found: npt.NDArray[Any], held: npt.NDArray[Any]) -> bool:
    return found.dtype == held.dtype and np.array_equal(found, held)
