"""Tells cheaply whether anything in a model could read a training flag, so that few are watched."""

from __future__ import annotations

import types
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["may_read_flags"]

# Code of torch's own modules and of this library is known to the rules.
_KNOWN = ("torch.nn.", "mcdrop.")
# Helpers called by a method may read the flag of the module that they are handed.
_DEPTH = 2
_KNOWN_KINDS: WeakKeyDictionary[type[nn.Module], bool] = WeakKeyDictionary()


def may_read_flags(model: nn.Module) -> bool:
    """Whether code outside torch.nn mentions `training`, or has no code that could be looked at."""
    for module in model.modules():
        kind = type(module)
        if kind not in _KNOWN_KINDS:
            _KNOWN_KINDS[kind] = _may_read(kind)
        if _KNOWN_KINDS[kind]:
            return True
        functions = (x for x in module.__dict__.values() if isinstance(x, types.FunctionType))
        if any(_mentions(function, _DEPTH) for function in functions):
            return True
        forward = module.__dict__.get("forward")
        if forward is not None and not isinstance(forward, types.FunctionType):
            return True
    return False


def _may_read(kind: type[nn.Module]) -> bool:
    """Whether a method that a class or one of its bases defines mentions `training`."""
    for base in kind.__mro__:
        if base is object or f"{base.__module__}.".startswith(_KNOWN):
            continue
        if base.__module__.startswith("torch.jit"):
            return True
        if any(_mentions(method, _DEPTH) for method in _functions(base)):
            return True
    return False


def _functions(base: type) -> Iterator[types.FunctionType]:
    for value in vars(base).values():
        plain = getattr(value, "__func__", value)
        plain = value.fget if isinstance(value, property) else plain
        if isinstance(plain, types.FunctionType):
            yield plain


def _mentions(function: types.FunctionType, depth: int) -> bool:
    """Whether a function, or one that it names, mentions `training`; torch's are not followed."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        if "training" in code.co_names or "training" in code.co_consts:
            return True
        codes.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
    if depth == 0:
        return False
    for name in names:
        other = function.__globals__.get(name)
        is_own = isinstance(other, types.FunctionType) and not other.__module__.startswith("torch")
        if is_own and _mentions(other, depth - 1):  # type: ignore[arg-type]
            return True
        # A scripted or built-in helper has no code to look at.
        if type(other).__module__.startswith("torch.jit"):
            return True
    return False
