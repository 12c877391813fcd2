"""Tells cheaply what the code of a model could do, so that few models are looked at closely."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["may_read_flags", "may_write_unseen"]

# Code of torch's own modules and of this library is known to the rules.
_KNOWN = ("torch.nn.", "mcdrop.")
# Helpers called by a method may read the flag of the module that they are handed.
_DEPTH = 2
# Whether a set of names, those that a piece of code uses, holds what is looked for.
_IsMeant = Callable[[set[object]], bool]


def may_read_flags(model: nn.Module) -> bool:
    """Whether code outside torch.nn mentions `training`, or has no code that could be looked at."""
    for module in model.modules():
        if _reads.of(type(module)) or _reads.of_instance(module):
            return True
        forward = module.__dict__.get("forward")
        if forward is not None and not isinstance(forward, types.FunctionType):
            return True
    return False


def may_write_unseen(model: nn.Module) -> bool:
    """Whether code outside torch.nn may write to parameters by calls that no mode is shown."""
    return any(_writes.of(type(m)) or _writes.of_instance(m) for m in model.modules())


def _mentions_training(names: set[object]) -> bool:
    return "training" in names


def _mentions_writes(names: set[object]) -> bool:
    texts = [name for name in names if isinstance(name, str)]
    if any(name.startswith(("_foreach_", "DisableTorchFunction")) for name in texts):
        return True
    return "ops" in names and any(name[-1:] == "_" and name[:1] != "_" for name in texts)


class _Search:
    """Looks for names in the code of modules; what a class mentions is remembered."""

    def __init__(self, is_meant: _IsMeant, *, in_scripts: bool) -> None:
        self._is_meant = is_meant
        # A scripted or built-in helper has no code to look at.
        self._in_scripts = in_scripts
        self._known: WeakKeyDictionary[type[nn.Module], bool] = WeakKeyDictionary()

    def of(self, kind: type[nn.Module]) -> bool:
        """Whether a method that a class or one of its bases defines has what is looked for."""
        if kind not in self._known:
            self._known[kind] = any(map(self._of_class, kind.__mro__))
        return self._known[kind]

    def of_instance(self, module: nn.Module) -> bool:
        """Whether a function that a module holds has what is looked for."""
        functions = (x for x in module.__dict__.values() if isinstance(x, types.FunctionType))
        return any(self._in(function, _DEPTH) for function in functions)

    def _of_class(self, base: type) -> bool:
        if base is object or f"{base.__module__}.".startswith(_KNOWN):
            return False
        if base.__module__.startswith("torch.jit"):
            return self._in_scripts
        return any(self._in(method, _DEPTH) for method in _functions(base))

    def _in(self, function: types.FunctionType, depth: int) -> bool:
        """Look into a function and those that it names; torch's are not followed."""
        names: set[object] = set()
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            constants = {c for c in code.co_consts if isinstance(c, str)}
            if self._is_meant({*code.co_names, *constants}):
                return True
            names.update(code.co_names)
            codes.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
        if depth == 0:
            return False
        for name in names:
            other = function.__globals__.get(str(name))
            if isinstance(other, types.FunctionType):
                if not other.__module__.startswith("torch") and self._in(other, depth - 1):
                    return True
            elif type(other).__module__.startswith("torch.jit") and self._in_scripts:
                return True
        return False


_reads = _Search(_mentions_training, in_scripts=True)
_writes = _Search(_mentions_writes, in_scripts=False)


def _functions(base: type) -> Iterator[types.FunctionType]:
    for value in vars(base).values():
        plain = getattr(value, "__func__", value)
        plain = value.fget if isinstance(value, property) else plain
        if isinstance(plain, types.FunctionType):
            yield plain
