"""torch's compiler and its programs: what it made, and what it must not compile.

Nothing here loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

__all__ = [
    "compiled_module",
    "compiler_is_loaded",
    "errors_of_programs",
    "is_compiler_error",
    "uncompiled",
]

_COMPILER = "torch._dynamo"
_eval_frame: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
# Returns None where no code of this thread is compiled as it is called.
_compiles_now: Any = getattr(_eval_frame, "get_eval_frame_callback", lambda: None)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiler_is_loaded() -> bool:
    """Tell whether the compiler may run code of this process."""
    return _COMPILER in sys.modules


def compiled_module(module: nn.Module) -> nn.Module | None:
    """Return the module inside what torch.compile returned, or None."""
    # Told by its attribute: importing the wrapper's class loads the compiler.
    inner = getattr(module, "_orig_mod", None)
    is_wrapper = type(module).__name__ == "OptimizedModule"
    return inner if is_wrapper and isinstance(inner, nn.Module) else None


def uncompiled(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function, and keep the compiler from compiling it.

    Code of a model that is compiled when it is called, or a sampler inside code of the caller's
    that is, would have the compiler follow all that draws masks.
    """
    if _compiles_now():
        function = torch.compiler.disable(function)
    return function(*args, **kwargs)


def is_compiler_error(error: BaseException) -> bool:
    """Tell whether code that is compiled when it is called could not be."""
    return type(error).__module__.startswith(_COMPILER)


def errors_of_programs() -> tuple[type[Exception], ...]:
    """Return what torch raises for a program that contradicts itself."""
    from torch._export import verifier

    found = getattr(verifier, "SpecViolationError", None)
    return () if found is None else (found,)
