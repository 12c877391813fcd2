"""Exported programs, read from files."""

from __future__ import annotations

from pathlib import Path

import torch

from mcdrop._disk.faults import reading, require_file, wrong
from mcdrop._files.vetting import fault_of_program

__all__ = ["read_program"]


def read_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program written by ``torch.export.save``; nothing in it is executed.

    Raises:
        UnsupportedError: If the file is of another kind or damaged, or holds more than tensors and
            a graph, so that reading it could run code.
        OSError: If the file cannot be opened.
    """
    remedy = "Write one with torch.export.save(torch.export.export(model, inputs), path)"
    if path.suffix != ".pt2":
        raise wrong(path, "be a .pt2 file", "", remedy)
    require_file(path)
    with reading(path, "hold an exported program", remedy):
        fault = fault_of_program(path)
        if fault is None:
            return torch.export.load(path)
    trusted = "If you trust it, pass the program that torch.export.load(path) returns"
    raise wrong(path, "hold a graph and tensors alone", fault, trusted)
