"""What is wrong with a file, in one sentence that names it."""

from __future__ import annotations

import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["UNREADABLE", "arrow_file", "reading", "require_file", "wrong"]

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


def arrow_file(path: Path) -> Any:
    """Open a file for Arrow, which takes names of files in UTF-8 alone if they are text."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path))


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
    path: Path,
    condition: str,
    remedy: str = "Write it anew",
    *,
    function: str = "mcdrop",
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn whatever other packages raise for a damaged file into one sentence that names it.

    Args:
        path: The file.
        condition: What it should be.
        remedy: What to do.
        function: Public function to name.
        also: Other errors that say that a file is damaged.

    Raises:
        UnsupportedError: If the file is damaged or of another kind.
        OSError: If the system cannot open it.
    """
    damaged: tuple[type[Exception], ...] = (*UNREADABLE, *also)
    try:
        yield
    except McdropError:
        raise
    except damaged as error:
        # Errors of the system name the file; those about its content do not.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise wrong(path, condition, error, remedy, function=function) from error


def require_file(path: Path) -> None:
    """Raise what the system says of a file that cannot be opened; refuse an empty one."""
    with path.open("rb") as file:
        if not file.read(1):
            raise wrong(path, "hold data", "an empty file", "Write it anew")
