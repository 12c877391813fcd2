"""What is wrong with a file, in one sentence that names it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["UNREADABLE", "require_file", "wrong"]

# What NumPy, torch and Arrow raise for a file that is damaged or of another kind.
UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def wrong(
    path: Path, condition: str, found: object, remedy: str, *, function: str = "mcdrop"
) -> McdropError:
    """Return the error about a file: what it should be, what it is, what to do."""
    reason = str(found).strip().splitlines()
    told = f"{path.name} ({reason[0].rstrip('.')})" if reason else path.name
    return UnsupportedError.of(function, "file", condition, told, remedy)


def require_file(path: Path) -> None:
    """Raise what the system says of a file that cannot be opened; refuse an empty one."""
    with path.open("rb") as file:
        if not file.read(1):
            raise wrong(path, "hold data", "an empty file", "Write it anew")
