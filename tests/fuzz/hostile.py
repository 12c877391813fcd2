"""Code and other harm, put into files."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["Change", "Payload", "rewritten", "saved", "within"]

Change = Callable[[str, bytes], bytes | None]


class Payload:
    """Makes a folder when it is unpickled, so that a test can see whether it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def rewritten(path: Path, change: Change, *, more: dict[str, bytes] | None = None) -> None:
    """Write an archive anew, each member as `change` returns it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)
        for name, data in (more or {}).items():
            archive.writestr(f"net/{name}", data)


def within(name_of_member: str, value: bytes) -> Change:
    return lambda name, data: value if name.endswith(name_of_member) else data
