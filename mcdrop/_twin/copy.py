"""A structural copy of a model that shares its parameters, so that the model is never touched.

Flags, hooks and names are set on the copy. Sharing parameters costs no memory, and the copy sees
their current values; buffers are cloned, so that a forward pass may update them in place.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._live.functorch import COMPILED_CALL, compiled_module

__all__ = ["structural_copy"]

_PLAIN = frozenset({bool, int, float, str, type(None)})
_CONTAINERS = frozenset({list, tuple, set, dict, OrderedDict, deque})


def structural_copy(
    model: nn.Module, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Copy the tree of modules; share parameters and all that is not part of the tree.

    Args:
        model: Any module; it is only read.
        device: Where the copy's tensors live; None leaves them where they are.
        dtype: Floating point type of the copy's tensors; None leaves it.

    Returns:
        A module of the same class in eval mode. Lists, dicts, bound methods and partial functions
        held as attributes point into the copy; tied weights stay tied.
    """
    memo: dict[int, Any] = {}
    with torch.no_grad():
        copy = _module(model, memo, device, dtype)
    for module in copy.modules():
        module.__dict__["training"] = False
    return copy


def _module(
    module: nn.Module, memo: dict[int, Any], device: torch.device | None, dtype: torch.dtype | None
) -> nn.Module:
    """Copy one module and, through its attributes, the modules below it."""
    if id(module) in memo:
        return memo[id(module)]
    inner = _wrapped_by(module)
    if inner is not None:
        return _module(inner, memo, device, dtype)
    copy = object.__new__(type(module))
    memo[id(module)] = copy
    state = dict(module.__dict__)
    state.pop(COMPILED_CALL, None)
    copy.__dict__.update({k: _attribute(v, memo, device, dtype) for k, v in state.items()})
    copy.__dict__[COMPILED_CALL] = None
    return copy


def _wrapped_by(module: nn.Module) -> nn.Module | None:
    """Return the module inside torch.compile, DataParallel or DistributedDataParallel.

    Compiled code would not be seen by a mode, and the parallel wrappers move data between
    devices and processes; a structural copy needs neither.
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return compiled_module(module)


def _tensor(value: Tensor, device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
    """Share a parameter, clone a buffer, and move either to the device and type of the copy."""
    target = dtype if dtype is not None and value.is_floating_point() else None
    moved = value.to(device=device, dtype=target)
    if not isinstance(value, nn.Parameter):
        return value.detach().clone() if moved is value else moved
    if moved is value:
        return value
    return nn.Parameter(moved.detach(), requires_grad=value.requires_grad)


def _attribute(
    value: Any, memo: dict[int, Any], device: torch.device | None, dtype: torch.dtype | None
) -> Any:
    """Copy whatever may contain modules; share everything else."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _CONTAINERS and not value:
        # Most attributes of a module are empty dicts of hooks.
        return memo.setdefault(id(value), kind())
    again = functools.partial(_attribute, memo=memo, device=device, dtype=dtype)
    if isinstance(value, nn.Module):
        return _module(value, memo, device, dtype)
    if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
        return types.MethodType(value.__func__, again(value.__self__))
    if kind is functools.partial:
        arguments = {name: again(item) for name, item in value.keywords.items()}
        return functools.partial(again(value.func), *map(again, value.args), **arguments)
    if not isinstance(value, Tensor) and kind not in _CONTAINERS:
        return value
    if id(value) not in memo:
        if isinstance(value, Tensor):
            memo[id(value)] = _tensor(value, device, dtype)
            return memo[id(value)]
        if isinstance(value, dict):
            copied: Any = kind()
            memo[id(value)] = copied
            copied.update({key: again(item) for key, item in value.items()})
        else:
            copied = kind(map(again, value))
            memo[id(value)] = copied
    return memo[id(value)]
