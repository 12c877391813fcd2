"""Exported programs, read from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mcdrop._disk.faults import reading, require_file, wrong
from mcdrop._export.metadata import METADATA
from mcdrop._files.vetting import fault_of_program
from mcdrop._live.compiler import errors_of_programs

__all__ = ["read_exported", "read_program"]


def read_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program written by ``torch.export.save``, whose dropout is to be sampled.

    Raises:
        UnsupportedError: If the file is of another kind or damaged, or `mcdrop.export` wrote it, so
            that nothing in it is random.
        OSError: If the file cannot be opened.
    """
    program, metadata = read_exported(path)
    if metadata is not None:
        passes = metadata["n_samples"]
        condition = "hold a model with dropout that is alive"
        found = f"a program of mcdrop.export, with the masks of {passes} passes baked in"
        remedy = "Call it as it is, torch.export.load(path).module()(rows), or pass the model"
        raise wrong(path, condition, found, remedy)
    return program


def read_exported(path: Path) -> tuple[torch.export.ExportedProgram, dict[str, Any] | None]:
    """Read a program, and what `mcdrop.export` wrote beside it; None if something else wrote it.

    Raises:
        UnsupportedError: If the file is of another kind or damaged, or holds more than tensors and
            a graph, so that reading it could run code.
        OSError: If the file cannot be opened.
    """
    remedy = "Write one with torch.export.save(torch.export.export(model, inputs), path)"
    if path.suffix != ".pt2":
        raise wrong(path, "be a .pt2 file", "", remedy)
    require_file(path)
    beside = {METADATA: ""}
    with reading(path, "hold an exported program", remedy, also=errors_of_programs()):
        fault = fault_of_program(path)
        if fault is None:
            program = torch.export.load(path, extra_files=beside)
            return program, json.loads(beside[METADATA]) if beside[METADATA] else None
    trusted = "If you trust it, pass the program that torch.export.load(path) returns"
    raise wrong(path, "hold a graph and tensors alone", fault, trusted)
