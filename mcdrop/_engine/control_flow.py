"""What torch traces or compiles: control flow in a model, which sees no mode, and the sampler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mcdrop._live.compiler import is_compiler_error
from mcdrop.errors import UnsupportedError

__all__ = ["naming_control_flow", "refuse_tracing"]


@contextmanager
def naming_control_flow(function: str) -> Iterator[None]:
    """Name what failed where a model calls compiled control flow.

    Args:
        function: Public function to name in errors.

    Raises:
        UnsupportedError: In place of an error of torch's compiler.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_compiler_error(error):
            raise
        raise UnsupportedError.of(
            function,
            "model",
            "branch and loop in Python",
            "torch.cond, while_loop or code that is compiled when it is called",
            "Write `if` and `for`, or call the function that is not compiled",
        ) from error


def refuse_tracing(function: str) -> None:
    """Refuse a call that torch traces into a program, which would keep one mask or none.

    Args:
        function: Public function to name in errors.

    Raises:
        UnsupportedError: If it is traced.
    """
    is_exporting = getattr(torch.compiler, "is_exporting", bool)
    is_tracing = getattr(torch.jit, "is_tracing", bool)
    if is_exporting() or is_tracing():
        raise UnsupportedError.of(
            function,
            "model",
            "be called outside torch.export and torch.jit, which would keep one mask or none",
            "a call while a program is traced",
            "Export the passes as constants: mcdrop.export(model, example, path)",
        )
