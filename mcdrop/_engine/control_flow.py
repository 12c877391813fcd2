"""torch's own control flow (`torch.cond`, `while_loop`), which is compiled, and sees no mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mcdrop._live.functorch import is_compiler_error
from mcdrop.errors import UnsupportedError

__all__ = ["naming_control_flow"]


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
