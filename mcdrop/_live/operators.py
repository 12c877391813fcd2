"""Operators of torch as they run, and what their schemas say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mcdrop._live.compiler import compiler_is_loaded
from mcdrop._live.functorch import DispatchMode

__all__ = ["OperatorMode", "takes_generator", "written_by"]


class OperatorMode(DispatchMode):
    """Sees every operator that runs in this thread, without loading the compiler.

    torch wraps `__torch_dispatch__` such that the compiler passes it by. That loads the compiler
    with the first operator that is seen, which was most of the time of a first prediction. There is
    nothing to pass by as long as nobody else has loaded it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the wrapping off until it is needed."""
        see = cls.__dict__.get("__torch_dispatch__")
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        passed_by = cls.__dict__.get("__torch_dispatch__")
        if see is None or passed_by is None or passed_by is see:
            return

        def dispatch(
            self: Any, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            return (passed_by if compiler_is_loaded() else see)(self, func, types, args, kwargs)

        cls.__torch_dispatch__ = dispatch  # type: ignore[method-assign]


def written_by(operator: Any, args: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among positional arguments that an operator writes to."""
    schema = operator._schema
    if not schema.is_mutable:
        return []
    given = zip(schema.arguments, args, strict=False)
    written = [value for spec, value in given if spec.alias_info and spec.alias_info.is_write]
    return [x for value in written for x in (value if isinstance(value, list) else [value])]


def takes_generator(operator: Any) -> bool:
    """Tell whether an operator can be given a generator."""
    return any(argument.name == "generator" for argument in operator._schema.arguments)
