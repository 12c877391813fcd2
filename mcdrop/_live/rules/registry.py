"""Rules of the user's own: how a fused kernel that drops units is computed with dropout alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import is_operator, overloads
from mcdrop._live.mode import LiveDropout
from mcdrop.errors import UnsupportedError

__all__ = ["register_rule", "registered_forward", "registered_rules", "registrations"]

Replacement = TypeVar("Replacement", bound=Callable[..., Any])

_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {}
_RULES: dict[TorchFunction, Rule] = {}
_COUNT = [0]


def register_rule(target: Any) -> Callable[[Replacement], Replacement]:
    """Say how a fused function or module that drops units is computed in plain torch.

    mcdrop sees dropout in calls of torch's functions. A kernel that drops units inside, such as
    a fused bias, dropout and residual, hides it; what is registered for it runs instead, on
    mcdrop's own copy of the model, and the dropout calls in it are alive. Your model keeps the
    kernel. With every unit kept, the replacement has to return what the kernel does in eval mode.

    Args:
        target: An operator, such as ``torch.ops.my_library.fused``; or a module class, whose
            instances (not those of subclasses) then run the replacement as their forward.

    Returns:
        A decorator; it returns the replacement unchanged. For an operator the replacement takes
        the operator's arguments, for a class the module and the arguments of its forward.

    Raises:
        UnsupportedError: If `target` is something else, which cannot be intercepted.

    Example:
        >>> import torch, mcdrop
        >>> class Fused(torch.nn.Module):  # stands for a module that calls a kernel
        ...     def forward(self, x, residual):
        ...         return residual + x
        >>> @mcdrop.register_rule(Fused)
        ... def fused(module, x, residual):
        ...     return residual + torch.nn.functional.dropout(x, 0.1)
        >>> x = torch.ones(2, 3)
        >>> [site.kind for site in mcdrop.wrap(Fused()).sites((x, x))]
        ['dropout']
    """
    is_module = isinstance(target, type) and issubclass(target, nn.Module)
    if not is_module and not is_operator(target):
        raise UnsupportedError.of(
            "register_rule",
            "target",
            "be a torch.nn.Module class or an operator of torch.ops",
            repr(target),
            "Register the module class that calls it",
        )

    def register(replacement: Replacement) -> Replacement:
        _COUNT[0] += 1
        if is_module:
            _FORWARDS[target] = replacement
        else:
            _RULES.update(dict.fromkeys(overloads(target), _rule(replacement)))
        return replacement

    return register


def registered_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by operator."""
    return dict(_RULES)


def registered_forward(kind: type[nn.Module]) -> Callable[..., Any] | None:
    """Return what was registered as the forward of a module class."""
    return _FORWARDS.get(kind)


def registrations() -> int:
    """Return how often something was registered: what was learned about a model depends on it."""
    return _COUNT[0]


def _rule(replacement: Callable[..., Any]) -> Rule:
    def rule(call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call.seen.used_registered = True
        with LiveDropout(call):
            return replacement(*args, **kwargs)

    return rule
