"""Dropout kept alive: a function mode that answers dropout calls while the model stays in eval().

The mode belongs to the thread that enters it. It sees every torch function the model calls; the
ones that have a rule are answered with random masks, all others run unchanged.
"""

from __future__ import annotations

from typing import Any

from torch.overrides import TorchFunctionMode

from mcdrop._live.call import Call, TorchFunction
from mcdrop._live.compiler import uncompiled

__all__ = ["LiveDropout"]


class LiveDropout(TorchFunctionMode):
    """Answers the functions that the call has rules for and lets every other one through."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def __torch_function__(
        self,
        func: TorchFunction,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func`, through its rule if it has one; torch disables the mode meanwhile."""
        return uncompiled(self._answer, func, args, kwargs or {})

    def _answer(self, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self.call
        if call.seen.overwritten:
            call.seen.check_not_read((args, kwargs))
        if call.last is not None:
            call.last.watch(func, args, kwargs)
        args, kwargs = call.arguments(func, args, kwargs)
        if "out" in kwargs:
            call.check_not_shared(kwargs["out"])
        rule = call.rules.get(func)
        out = func(*args, **kwargs) if rule is None else rule(call, func, args, kwargs)
        if call.flops is not None:
            call.note_sizes(func, out)
        return out
