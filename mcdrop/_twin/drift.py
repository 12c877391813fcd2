"""Names what a forward pass leaves behind where the copy of a model cannot undo it.

Globals, attributes of classes, variables of closures and generators belong to the caller's program
and are shared. A model whose output depends on them is refused; this tells which it is.
"""

from __future__ import annotations

import inspect
import pickle
import types
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mcdrop._twin.objects import attributes_of, is_generator, is_own

__all__ = ["Changes", "changed", "contents"]

# Enough for any state that is not a data set.
_MOST = 100_000
_ABSENT = object()
_NUMBERS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (list, tuple, set, frozenset, deque)
_CODE = (types.FunctionType, types.MethodType)


@dataclass(frozen=True)
class Changes:
    """What a call changed for good.

    Attributes:
        names: Names of numbers, tensors and iterators.
        generators: Names of generators of random numbers.
    """

    names: list[str]
    generators: list[str]


@dataclass(frozen=True)
class _GeneratorState:
    state: int


def contents(model: nn.Module) -> dict[str, Hashable]:
    """Return what a model can reach, by name: numbers, tensors, and the state of iterators."""
    found: dict[str, Hashable] = {}
    known: set[int] = set()
    to_visit: deque[tuple[str, Any]] = deque()
    for path, module in model.named_modules():
        to_visit += _of_module(path, module)
    while to_visit and len(found) < _MOST:
        name, value = to_visit.popleft()
        if isinstance(value, _NUMBERS):
            found[name] = value
            continue
        if id(value) in known or isinstance(value, nn.Module | type | types.ModuleType):
            continue
        known.add(id(value))
        inner = list(_inside(name, value))
        if inner:
            to_visit += inner
        else:
            found[name] = _fingerprint(value)
    return found


def changed(before: dict[str, Hashable], after: dict[str, Hashable]) -> Changes:
    """Return what differs."""
    both = {**before, **after}
    names = [k for k in both if before.get(k, _ABSENT) != after.get(k, _ABSENT)]
    generators = [name for name in names if isinstance(after.get(name), _GeneratorState)]
    return Changes([name for name in names if name not in generators], generators)


def _of_module(path: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a module and of its class, and what its forward reads by name."""
    prefix = f"{path}." if path else ""
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers"):
            yield from ((f"{prefix}{key}", item) for key, item in value.items())
        elif name != "_modules":
            yield f"{prefix}{name}", value
    for kind in type(module).__mro__:
        if kind.__module__.partition(".")[0] in ("torch", "builtins"):
            break
        for name, value in vars(kind).items():
            if isinstance(value, _CODE):
                yield from _of_code(f"{kind.__name__}.{name}", value)
            elif not name.startswith("__"):
                yield f"{kind.__name__}.{name}", value


def _of_code(name: str, function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the globals that a function reads, and the variables that it closes over."""
    function = getattr(function, "__func__", function)
    for used in function.__code__.co_names:
        value = function.__globals__.get(used)
        if not isinstance(value, types.ModuleType | type | types.BuiltinFunctionType):
            yield f"the global {used}", value
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for used, cell in cells:
        try:
            yield f"{used} in {name}", cell.cell_contents
        except ValueError:  # an empty cell
            continue


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container, an object, a function or a generator holds."""
    if isinstance(value, dict):
        yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, _CONTAINERS):
        yield f"len({name})", len(value)
        yield from ((f"{name}[{number}]", item) for number, item in enumerate(value))
    elif isinstance(value, types.GeneratorType):
        yield from ((f"{k} in {name}", v) for k, v in inspect.getgeneratorlocals(value).items())
    elif isinstance(value, _CODE):
        yield from _of_code(name, value)
    elif is_own(value):
        yield from ((f"{name}.{key}", item) for key, item in attributes_of(value).items())


def _fingerprint(value: Any) -> Hashable:
    """Return something that differs when a value has changed."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().to(torch.float64).numpy() if value.numel() else np.empty(0)
    if isinstance(value, np.ndarray):
        return value.shape, hash(value.tobytes())
    if is_generator(value):
        return _GeneratorState(hash(pickle.dumps(_state(value))))
    if type(value).__module__ in ("itertools", "builtins", "collections", "types"):
        return repr(value)
    return None


def _state(generator: Any) -> Any:
    """Return the state of a generator of torch's, NumPy's or Python's."""
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, Random) else generator.get_state()
