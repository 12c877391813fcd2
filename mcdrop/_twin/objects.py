"""Objects that a model holds besides modules and tensors: which of them the copy has for itself.

A forward pass may change them: counters, caches, namespaces, generators of random numbers. Objects
of large frameworks, of the standard library, and very large ones are shared.
"""

from __future__ import annotations

import random
import sys
import types
from collections import deque
from collections.abc import Iterator
from copy import copy, deepcopy
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["attributes_of", "copied_generator", "is_generator", "is_helper", "is_own", "shallow"]

_FRAMEWORKS = frozenset(
    {"accelerate", "deepspeed", "lightning", "numpy", "pytorch_lightning", "ray", "torch"}
)
_SHARED = (Tensor, nn.Module, np.ndarray, np.generic, type, types.ModuleType, Enum, BaseException)
_CONTAINERS = (list, tuple, set, frozenset, deque)

# Larger ones are data sets and registries rather than the state of a forward pass.
_MOST_ITEMS = 1000

_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)


def is_helper(value: object) -> bool:
    """Whether an object holds modules, or is a namespace, so that forward may change it."""
    if type(value) is types.SimpleNamespace:
        return True
    if isinstance(value, type) or callable(value) or type(value).__module__.startswith("torch"):
        return False
    held = getattr(value, "__dict__", None)
    if not isinstance(held, dict):
        return False
    return any(
        isinstance(item, nn.Module)
        or (isinstance(item, types.MethodType) and isinstance(item.__self__, nn.Module))
        for item in held.values()
    )


def is_own(value: object) -> bool:
    """Whether an object is of a class of the user's, and of a size that a copy costs little."""
    if not _is_of_the_users(value):
        return False
    known, to_visit = {id(value)}, [value]
    for found in to_visit:
        for item in _items(found):
            if id(item) in known:
                continue
            known.add(id(item))
            to_visit.append(item)
            if len(to_visit) > _MOST_ITEMS:
                return False
    return True


def attributes_of(value: object) -> dict[str, Any]:
    """Return the attributes that an object holds, in its dict and in slots."""
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return {**found, **getattr(value, "__dict__", {})}


def shallow(value: Any) -> Any:
    """Return another object with the same attributes; the object itself if it has no copy."""
    try:
        return copy(value)
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return value


def is_generator(value: object) -> bool:
    """Whether an object generates random numbers."""
    return isinstance(value, _GENERATORS)


def copied_generator(value: Any) -> Any:
    """Return a generator of random numbers in the same state."""
    if not isinstance(value, torch.Generator):
        return deepcopy(value)
    generator = torch.Generator(value.device)
    generator.set_state(value.get_state())
    return generator


def _is_of_the_users(value: object) -> bool:
    kind = type(value)
    if isinstance(value, _SHARED):
        return False
    root = kind.__module__.partition(".")[0]
    if root in _FRAMEWORKS or root in sys.stdlib_module_names:
        return False
    return hasattr(value, "__dict__") or any("__slots__" in base.__dict__ for base in kind.__mro__)


def _items(value: Any) -> Iterator[Any]:
    """Yield what a copy of a container or object would go on to copy."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, _CONTAINERS):
        yield from value
    elif _is_of_the_users(value):
        yield from attributes_of(value).values()
