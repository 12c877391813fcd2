"""Access to the memory of a tensor past torch's count of writes, and writes to the caller's.

The copy of the model shares its parameters with the caller's model until it writes to one; what
else a pass writes to is put back after it. A write through ``x.data`` or an array raises no count,
so that contents are compared from then on; a parameter whose memory leaves torch is copied first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._live.call import Call, Rule, TorchFunction

__all__ = ["exposing", "guarded", "memory_rules"]

_LEAVES_TORCH: tuple[Any, ...] = (
    Tensor.numpy,
    Tensor.__array__,
    Tensor.__dlpack__,
    Tensor.untyped_storage,
    Tensor.storage,
)
_DATA: Any = Tensor.data
_GRADS: tuple[Any, ...] = (Tensor.grad, Tensor.requires_grad)
_SETTERS = (_DATA.__set__, *(attribute.__set__ for attribute in _GRADS))


def memory_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    return {
        _DATA.__get__: _uncounted,
        **dict.fromkeys(_SETTERS, _exposed),
        **dict.fromkeys(_LEAVES_TORCH, _exposed),
    }


def guarded(rules: Mapping[TorchFunction, Rule]) -> dict[TorchFunction, Rule]:
    """Return the rules with a check before all that writes in place: not to the caller's."""
    return {**rules, **{func: _guard(rules.get(func)) for func in _writing()}}


def exposing() -> frozenset[TorchFunction]:
    """Return the functions that write to their first argument, or let other code do so."""
    return frozenset((*_writing(), *_SETTERS, *_LEAVES_TORCH))


def _writing() -> list[TorchFunction]:
    """Return the functions that write to their first argument."""
    found = []
    for namespace in (Tensor, torch, nn.init):
        for name in dir(namespace):
            in_place = name.endswith("_") and not name.startswith("_")
            if in_place or (name.startswith("__i") and name.endswith("__")):
                found.append(getattr(namespace, name))
    not_writing = (Tensor.__init__, Tensor.__init_subclass__, Tensor.__index__, Tensor.__int__)
    found += [Tensor.__setitem__]
    return [func for func in found if callable(func) and func not in not_writing]


def _guard(rule: Rule | None) -> Rule:
    def guard(
        call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call.check_not_shared((args[:1], kwargs.get("tensor")))
        return func(*args, **kwargs) if rule is None else rule(call, func, args, kwargs)

    return guard


def _uncounted(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call.seen.hands_out_memory = True
    return func(*args, **kwargs)


def _exposed(call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call.check_not_shared(args[:1])
    return _uncounted(call, func, args, kwargs)
