"""Exported programs, read from files."""

from __future__ import annotations

from pathlib import Path

import torch

from mcdrop._files.faults import UNREADABLE, require_file, wrong

__all__ = ["read_program"]


def read_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program written by ``torch.export.save``.

    Raises:
        UnsupportedError: If the file is of another kind or damaged.
        OSError: If the file cannot be opened.
    """
    remedy = "Write one with torch.export.save(torch.export.export(model, inputs), path)"
    if path.suffix != ".pt2":
        raise wrong(path, "be a .pt2 file", "", remedy)
    require_file(path)
    try:
        return torch.export.load(path)
    except UNREADABLE as error:
        raise wrong(path, "hold an exported program", error, remedy) from error
