"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["UNFINISHED", "writing"]

UNFINISHED = ".unfinished"


@contextmanager
def writing(path: Path, *, beside: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes its name once everything is on the disk.

    A link is followed; a device, such as /dev/stdout, is written to as it is.

    Args:
        path: File to write; an existing one is replaced, and its permissions are kept.
        beside: Folder of the same file system for the unfinished file; that of `path` by default.

    Raises:
        OSError: If something could not be written, for example because the disk is full; the
            unfinished file is removed.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    # Two threads may write the same file; the last one to finish decides.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    unfinished = (beside or path.parent) / f"{path.name}.{writer}{UNFINISHED}"
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk; systems that cannot open folders do so by themselves."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
