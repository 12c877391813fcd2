"""What is wrong with a file, in one sentence that names it."""

from __future__ import annotations

import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["UNREADABLE", "reading", "require_file", "wrong"]

UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy, pandas, torch and Arrow raise for a file that is damaged or of another kind."""


def wrong(
    path: Path, condition: str, found: object, remedy: str, *, function: str = "mcdrop"
) -> McdropError:
    """Return the error about a file: what it should be, what it is, what to do."""
    reason = str(found).strip().splitlines()
    name = path.name or str(path)
    told = f"{name} ({reason[0].rstrip('.')})" if reason else name
    return UnsupportedError.of(function, "file", condition, told, remedy)


@contextmanager
def reading(
    path: Path, condition: str, remedy: str = "Write it anew", *, function: str = "mcdrop"
) -> Iterator[None]:
    """Turn whatever other packages raise for a damaged file into one sentence that names it.

    Args:
        path: The file.
        condition: What it should be.
        remedy: What to do.
        function: Public function to name.

    Raises:
        UnsupportedError: If the file is damaged or of another kind.
        OSError: If the system cannot open it.
    """
    try:
        yield
    except McdropError:
        raise
    except Exception as error:
        # torch has errors of its own for programs that contradict themselves.
        if not isinstance(error, UNREADABLE) and not type(error).__module__.startswith("torch."):
            raise
        # Errors of the system name the file; those about its content do not.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise wrong(path, condition, error, remedy, function=function) from error


def require_file(path: Path) -> None:
    """Raise what the system says of a file that cannot be opened; refuse an empty one."""
    with path.open("rb") as file:
        if not file.read(1):
            raise wrong(path, "hold data", "an empty file", "Write it anew")
