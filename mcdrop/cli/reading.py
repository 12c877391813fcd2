"""Reads the files that the commands are given; whatever is wrong with one is said in a sentence."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mcdrop._disk.archives import fault_of_size, fault_of_tensors
from mcdrop._disk.faults import arrow_file, reading, require_file, wrong
from mcdrop._files.npy import read_header
from mcdrop._files.programs import read_program
from mcdrop.checks import require_installed
from mcdrop.errors import UnsupportedError

__all__ = [
    "check_writable",
    "read_array",
    "read_arrays",
    "read_program",
    "read_table",
    "wrong",
]

_LEAVE_OUT = "Leave these columns out, or encode them as numbers"


def read_array(path: Path, column: str | None = None, *, remedy: str = _LEAVE_OUT) -> Any:
    """Read an array from a file, by its suffix; from a table, one column or all.

    Args:
        path: A .npy, .npz, .csv, .parquet or .pt file.
        column: Column of a table; None for all, side by side. Of an archive, its array; None for
            "x", or the only one.
        remedy: What to do about columns of text.

    Raises:
        UnsupportedError: If it is of another kind, damaged, or holds no numbers.
        OSError: If it cannot be opened.
    """
    readers: dict[str, Callable[[], Any]] = {
        ".npy": lambda: _array(path),
        ".npz": lambda: _member(path, column),
        ".pt": lambda: _tensors(path),
        ".csv": lambda: _table(path, column, remedy),
        ".parquet": lambda: _table(path, column, remedy),
    }
    if path.suffix not in readers:
        raise wrong(path, f"end in one of {', '.join(readers)}", "", "Save it in one of these")
    require_file(path)
    with reading(path, f"be a {path.suffix} file of numbers"):
        return readers[path.suffix]()


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an archive or every column of a table, by name.

    Args:
        path: A .npz, .csv or .parquet file.

    Raises:
        UnsupportedError: If it is of another kind or damaged, or columns differ in length.
        OSError: If it cannot be opened.
    """
    readers = {".npz": _archive, ".csv": _columns, ".parquet": _columns}
    if path.suffix not in readers:
        kinds = ", ".join([".pt", *readers])
        raise wrong(path, f"end in one of {kinds}", "", "Save it in one of these")
    require_file(path)
    with reading(path, f"be a {path.suffix} file"):
        return readers[path.suffix](path)


def _tensors(path: Path) -> Any:
    """Read what torch.save wrote of tensors; nothing in it is executed."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file) and (fault := fault_of_tensors(file)):
            raise wrong(path, "hold tensors in plain containers", fault, "Write it anew")
    return torch.load(path, map_location="cpu", weights_only=True)


def _archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every array of a .npz file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as members:
            _require_believable(path, sum(info.file_size for info in members.infolist()))
            names = members.namelist()
        for name in names:
            if name.endswith(".npy"):
                read_header(path, name.removesuffix(".npy"))
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if isinstance(archive, np.ndarray):
            raise ValueError("a single array")
        arrays = {name: archive[name] for name in archive.files}
    # NumPy hands out members of another kind as bytes.
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise ValueError(f"no arrays as {others}")
    return arrays


def _member(path: Path, column: str | None) -> npt.NDArray[Any]:
    """Read one array of a .npz file."""
    arrays = _archive(path)
    name = column or "x"
    if name in arrays:
        return arrays[name]
    if column is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    found = f"arrays {', '.join(map(repr, arrays)) or 'none'}"
    raise wrong(path, f"hold the array {name!r}", found, "Rename one of its arrays")


def _columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every column of a table."""
    table = read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def _require_believable(path: Path, total: int) -> None:
    if fault := fault_of_size(total, path.stat().st_size):
        raise wrong(path, "be about as large as what it holds", fault, "Write it uncompressed")


def check_writable(*paths: Path | None, read: Iterable[Path | None] = ()) -> None:
    """Refuse files that cannot be written, before any work is done for them.

    Args:
        *paths: Files to write; None for one that was not asked for.
        read: Files of the same command that are read, and would be lost.

    Raises:
        UnsupportedError: If a path is a folder, lies in none, may not be written, or is that of
            another file of the command.
    """
    taken = {path.resolve() for path in read if path is not None}
    for path in paths:
        if path is None:
            continue
        if path.resolve() in taken:
            condition = "be another file than those that are read or written beside it"
            raise wrong(path, condition, "the same file", "Name another file")
        taken.add(path.resolve())
        folder = path.parent
        if path.is_dir() or not folder.is_dir():
            found = "is a folder" if path.is_dir() else f"there is no folder {folder}"
            raise wrong(path, "be a file to write", found, "Name a file in a folder that exists")
        if not _may_write(path if path.exists() else folder):
            raise wrong(path, "be writable", "no permission", "Choose another place")


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def _array(path: Path) -> Any:
    with path.open("rb") as file:
        is_array = file.read(6) == np.lib.format.MAGIC_PREFIX
        if is_array:
            read_header(path, "x")  # NumPy allocates what the head says before it reads.
        file.seek(0)
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
        return array


def _table(path: Path, column: str | None, remedy: str) -> Any:
    """Read one column of a table, or all columns side by side."""
    from pyarrow import types

    table = read_table(path)
    names = list(table.column_names)
    if column is not None and column not in names:
        raise UnsupportedError.of(
            "mcdrop report",
            "--column",
            f"be one of {names} of {path.name}",
            repr(column),
            "Name the column that holds the targets",
        )
    wanted = names if column is None else [column]
    if not wanted or table.num_rows == 0:
        raise wrong(path, "have rows and columns", "none", "Pass a file with data")
    kinds = {name: table.schema.field(name).type for name in wanted}
    text = [
        f"{name!r} ({kind})"
        for name, kind in kinds.items()
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
    ]
    # Labels may be words; what goes into a model may not.
    if text and column is None:
        raise wrong(path, "hold numbers only", f"columns {', '.join(text[:5])}", remedy)
    arrays = [table[name].to_numpy() for name in wanted]
    return arrays[0] if column is not None else np.column_stack(arrays)


def read_table(path: Path) -> Any:
    """Read a table whose columns have different names."""
    require_installed("mcdrop", "pyarrow", "files")
    from pyarrow import csv, parquet

    if path.suffix == ".csv":
        table = csv.read_csv(arrow_file(path))
    else:
        with arrow_file(path) as source, parquet.ParquetFile(source) as file:
            # Eight bytes a number: repeated values take no room in the file.
            _require_believable(path, 8 * file.metadata.num_rows * file.metadata.num_columns)
            table = file.read()
    names = list(table.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise wrong(path, "have columns of different names", f"{twice} twice", "Rename them")
    return table
