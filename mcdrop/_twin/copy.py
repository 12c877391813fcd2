"""A structural copy of a model that shares its parameters, so that the model is never touched.

Flags, hooks and names are set on the copy. Sharing parameters costs no memory, and the copy sees
their current values; buffers are cloned, so that a forward pass may update them in place.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mcdrop._live.compiler import compiled_module
from mcdrop._live.functorch import COMPILED_CALL
from mcdrop._twin.flag_readers import may_write_unseen
from mcdrop._twin.objects import (
    attributes_of,
    copied_generator,
    is_generator,
    is_helper,
    is_own,
    shallow,
)
from mcdrop._twin.original import Original, content_of

__all__ = ["Made", "recorded_copy", "structural_copy", "written_to"]

_PLAIN = frozenset({bool, int, float, str, type(None)})
_CONTAINERS = frozenset({list, tuple, set, dict, OrderedDict, deque})
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)


@dataclass
class Made:
    """What a copy holds for itself, besides its modules: a forward pass may change it.

    Attributes:
        containers: Dicts of attributes and of anything else, lists, sets, queues.
        tensors: Buffers and other tensors that are no parameters.
        arrays: NumPy arrays.
        objects: Objects of classes of the user's.
        original: What all of it was copied from.
    """

    containers: list[Any] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    arrays: list[npt.NDArray[Any]] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    original: Original = field(default_factory=Original)


def structural_copy(
    model: nn.Module,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    own: Collection[int] = (),
) -> nn.Module:
    """Copy the tree of modules; share parameters and all that is not part of the tree.

    Args:
        model: Any module; it is only read.
        device: Where the copy's tensors live; None leaves them where they are.
        dtype: Floating point type of the copy's tensors; None leaves it.
        own: Identities of parameters that the copy may write to, and so does not share.

    Returns:
        A module of the same class in eval mode. Containers, bound methods, partial functions,
        closures, weak references and small helper objects held as attributes point into the copy;
        tied weights stay tied.
    """
    return recorded_copy(model, device=device, dtype=dtype, own=own)[0]


def recorded_copy(
    model: nn.Module,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    own: Collection[int] = (),
) -> tuple[nn.Module, Made]:
    """Copy as `structural_copy` does; return what the copy holds for itself as well."""
    copier = _Copier(device, dtype, own)
    with torch.no_grad():
        copy = copier.module(model)
    for module in copy.modules():
        module.__dict__["training"] = False
    return copy, copier.made


class _Copier:
    """Copies modules, each once."""

    def __init__(
        self, device: torch.device | None, dtype: torch.dtype | None, own: Collection[int]
    ) -> None:
        self._device = device
        self._dtype = dtype
        self._own = frozenset(own)
        self._memo: dict[int, Any] = {}
        self.made = Made()
        self._original = self.made.original

    def module(self, module: nn.Module) -> nn.Module:
        """Copy one module and, through its attributes, the modules below it."""
        if id(module) in self._memo:
            return self._memo[id(module)]
        inner = _wrapped_by(module)
        if inner is not None:
            self._original.add_container(module._modules)
            return self.module(inner)
        copy = object.__new__(type(module))
        self._memo[id(module)] = copy
        self._original.add_module(module)
        state = dict(module.__dict__)
        state.pop(COMPILED_CALL, None)
        copy.__dict__.update({name: self._attribute(value) for name, value in state.items()})
        copy.__dict__[COMPILED_CALL] = None
        self.made.containers.append(copy.__dict__)
        return copy

    def _attribute(self, value: Any) -> Any:
        """Copy whatever may contain modules or be written to; share everything else."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in _CONTAINERS and kind is not deque and not value:
            # Most attributes of a module are empty dicts of hooks.
            if id(value) not in self._memo:
                self._memo[id(value)] = kind()
                self._record(self._memo[id(value)], value)
            return self._memo[id(value)]
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
            return types.MethodType(value.__func__, self.module(value.__self__))
        if id(value) not in self._memo:
            self._copy(value)
        return self._memo.get(id(value), value)

    def _copy(self, value: Any) -> None:
        """Enter the copy of a value that is no module into the memo, unless it is shared."""
        kind, memo = type(value), self._memo
        if isinstance(value, Tensor):
            memo[id(value)] = self._tensor(value)
            self._original.add_tensor(value)
            if not isinstance(value, nn.Parameter):
                self.made.tensors.append(memo[id(value)])
        elif kind in _MAPPINGS:
            # Entered before its items, which may refer to it.
            copied: Any = defaultdict(value.default_factory) if kind is defaultdict else kind()
            memo[id(value)] = copied
            copied.update({key: self._attribute(item) for key, item in value.items()})
            self._record(copied, value)
        elif kind is deque:
            memo[id(value)] = deque(map(self._attribute, value), value.maxlen)
            self._record(memo[id(value)], value)
        elif kind in _CONTAINERS:
            memo[id(value)] = kind(map(self._attribute, value))
            self._record(memo[id(value)], value)
        elif kind is functools.partial:
            arguments = {name: self._attribute(item) for name, item in value.keywords.items()}
            function = self._attribute(value.func)
            memo[id(value)] = functools.partial(
                function, *map(self._attribute, value.args), **arguments
            )
        elif kind is types.FunctionType and value.__closure__:
            memo[id(value)] = self._closure(value)
        elif kind is weakref.ref:
            target = value()
            self._original.add_reference(value)
            memo[id(value)] = (
                weakref.ref(self.module(target)) if isinstance(target, nn.Module) else value
            )
        elif isinstance(value, np.ndarray):
            memo[id(value)] = value.copy()
            self._original.add_array(value)
            self.made.arrays.append(memo[id(value)])
        elif is_generator(value):
            # The copy goes on with its own numbers; the next one starts where the model stands.
            self._original.is_opaque = True
            memo[id(value)] = copied_generator(value)
        elif is_helper(value) or is_own(value):
            self._object(value)

    def _object(self, value: Any) -> None:
        """Enter the copy of an object into the memo; or the object, if it has no copy."""
        copied = self._memo[id(value)] = shallow(value)
        self.made.objects.append(copied)
        self._original.add_object(value)
        if copied is not value:
            for name, item in attributes_of(value).items():
                object.__setattr__(copied, name, self._attribute(item))

    def _record(self, container: Any, original: Any) -> None:
        if not isinstance(container, tuple):
            self.made.containers.append(container)
            self._original.add_container(original)

    def _tensor(self, value: Tensor) -> Tensor:
        """Share a parameter, clone a buffer, and move either to the device and type of the copy."""
        target = self._dtype if self._dtype is not None and value.is_floating_point() else None
        moved = value.to(device=self._device, dtype=target)
        if not isinstance(value, nn.Parameter):
            return value.detach().clone() if moved is value else moved
        if id(value) in self._own:
            moved = moved.detach().clone() if moved is value else moved
        elif moved is value:
            return value
        # It does not follow the model's parameter.
        self._original.is_opaque = True
        return nn.Parameter(moved.detach(), requires_grad=value.requires_grad)

    def _closure(self, function: types.FunctionType) -> types.FunctionType:
        """Copy a function that closes over modules, such as a patched forward."""
        self._original.add_function(function)
        cells = []
        for cell in function.__closure__ or ():
            content = content_of(cell)
            copied = self._attribute(content) if _is_copied_in_closures(content) else content
            cells.append(cell if copied is content else types.CellType(copied))
        if all(new is old for new, old in zip(cells, function.__closure__ or (), strict=True)):
            return function
        copy = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(cells),
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        copy.__dict__.update(function.__dict__)
        return copy


def _is_copied_in_closures(value: Any) -> bool:
    """Whether a function that closes over a value is copied: for modules and random generators."""
    if isinstance(value, nn.Module) or is_generator(value):
        return True
    if isinstance(value, types.MethodType):
        return isinstance(value.__self__, nn.Module)
    if isinstance(value, functools.partial):
        return any(map(_is_copied_in_closures, (value.func, *value.args, *value.keywords.values())))
    if isinstance(value, types.FunctionType):
        # A function that refers to itself has its cell in the making; one level is enough.
        cells = value.__closure__ or ()
        found = map(content_of, cells)
        return any(isinstance(x, nn.Module | types.MethodType) or is_generator(x) for x in found)
    if isinstance(value, list | tuple):
        return any(isinstance(item, nn.Module) for item in value)
    if isinstance(value, dict):
        return any(isinstance(item, nn.Module) for item in value.values())
    return is_helper(value)


def _wrapped_by(module: nn.Module) -> nn.Module | None:
    """Return the module inside torch.compile, DataParallel or DistributedDataParallel.

    Compiled code would not be seen by a mode, and the parallel wrappers move data between
    devices and processes; a structural copy needs neither.
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return compiled_module(module)


def written_to(model: nn.Module) -> frozenset[int]:
    """Return the parameters that a call may write to unseen: the copy needs its own.

    An embedding with `max_norm` renormalizes its weight; some code writes past every mode.
    """
    if may_write_unseen(model):
        return frozenset(map(id, model.parameters()))
    kinds = (nn.Embedding, nn.EmbeddingBag)
    found = (m for m in model.modules() if isinstance(m, kinds) and m.max_norm is not None)
    return frozenset(id(module.weight) for module in found)
