"""What `mcdrop predict` and `mcdrop inspect` are given: rows with ids, numbers of passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from mcdrop._disk.faults import reading, require_file, wrong
from mcdrop._export.metadata import read_onnx_metadata
from mcdrop._files.programs import read_exported
from mcdrop.checks import require_installed
from mcdrop.cli.reading import read_array, read_table
from mcdrop.errors import UnsupportedError

__all__ = [
    "check_kept",
    "check_table",
    "example_rows",
    "inspected",
    "is_streamed",
    "only_id_column",
    "passes_asked_for",
    "read_rows",
    "refuse_ray",
    "two_files",
]


def read_rows(path: Path, id_column: str | None) -> Any:
    """Read the inputs of a model; from a table with ids, a DataFrame that has them as its index.

    Args:
        path: A .npy, .npz, .csv, .parquet or .pt file.
        id_column: Column of a table that names its rows, of any type; None for none.

    Raises:
        UnsupportedError: If the file is of another kind or damaged, or has no such column.
        OSError: If it cannot be opened.
    """
    if id_column is None:
        remedy = "Name ids with --id-column, encode other columns as numbers, or leave them out"
        return read_array(path, remedy=remedy)
    if path.suffix not in (".csv", ".parquet"):
        raise UnsupportedError.of(
            "mcdrop predict",
            "--id-column",
            "go with a table (.csv or .parquet)",
            path.name,
            "Leave it out",
        )
    require_installed("mcdrop predict", "pandas", "files")
    require_file(path)
    with reading(path, f"be a {path.suffix} table"):
        table = read_table(path)
        if id_column in table.column_names:
            return table.to_pandas().set_index(id_column)
    raise UnsupportedError.of(
        "mcdrop predict",
        "--id-column",
        f"be one of the columns of {path.name}: {table.column_names}",
        repr(id_column),
        "Name the column that holds the ids",
    )


def two_files(files: Sequence[Path], model: Path | None, data: Path | None) -> tuple[Path, Path]:
    """Return model and data, each given by its option or else by its place.

    Raises:
        UnsupportedError: If one is missing, or there are more.
    """
    given = list(files)
    both = [path or (given.pop(0) if given else None) for path in (model, data)]
    program, rows = both
    if program is None or rows is None or given:
        found = ", ".join(map(str, files)) or "none of these"
        raise UnsupportedError.of(
            "mcdrop predict",
            "--model",
            "come with --data, and with no other file",
            found,
            "Write mcdrop predict --model model.pt2 --data in.parquet --out out.parquet",
        )
    return program, rows


def check_kept(keep_samples: bool | None, passes: int | Literal["auto"]) -> None:
    """Refuse to keep the passes of rows that take different numbers of them.

    Raises:
        UnsupportedError: If both are asked for.
    """
    if keep_samples and passes == "auto":
        raise UnsupportedError.of(
            "mcdrop predict",
            "--keep-samples",
            "be left out with --n-samples auto, where rows take different numbers of passes",
            "both",
            "Pass a number of passes, such as --n-samples 100",
        )


def check_table(path: Path | None) -> None:
    """Refuse another kind of file where a .csv table is written beside the prediction.

    Raises:
        UnsupportedError: If its suffix is another.
    """
    if path is not None and path.suffix.lower() != ".csv":
        raise UnsupportedError.of(
            "mcdrop predict",
            "--table",
            "end in .csv",
            path.name,
            "Name the file table.csv, or write another kind with --out",
        )


def is_streamed(data: Path, out: Path) -> bool:
    """Whether rows can be read and predictions written as a stream."""
    readable = (".csv", ".npy", ".npz", ".parquet")
    return (data.is_dir() or data.suffix.lower() in readable) and out.suffix.lower() in (
        ".csv",
        ".npz",
        ".parquet",
    )


def only_id_column(ids: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the one id column that a prediction in memory can have, or None.

    Raises:
        UnsupportedError: If there are more, or columns are chosen, which is for streams alone.
    """
    if len(ids) > 1 or columns:
        raise UnsupportedError.of(
            "mcdrop predict",
            "--column" if columns else "--id-column",
            "go with a table to write (.parquet, .csv), without --table and --keep-samples",
            ", ".join(columns or ids),
            "Pass --out prediction.parquet",
        )
    return ids[0] if ids else None


def refuse_ray(address: str | None) -> None:
    """Refuse a cluster for what is predicted in memory.

    Raises:
        UnsupportedError: If an address is given.
    """
    if address is not None:
        raise UnsupportedError.of(
            "mcdrop predict",
            "--ray",
            "go with files that are read and written as a stream",
            address,
            "Pass --out prediction.parquet, without --table and --keep-samples",
        )


def inspected(path: Path) -> tuple[torch.export.ExportedProgram | None, dict[str, Any] | None]:
    """Return a program and what `mcdrop.export` wrote beside it; of an ONNX file only the latter.

    Raises:
        UnsupportedError: If the file is of another kind or damaged.
        OSError: If it cannot be opened.
    """
    if path.suffix != ".onnx":
        return read_exported(path)
    require_installed("mcdrop inspect", "onnx", "onnx")
    require_file(path)
    try:
        metadata = read_onnx_metadata(path)
    except ValueError as error:
        raise wrong(path, "be an ONNX file", error, "Write it anew") from error
    if metadata is None:
        remedy = "Inspect the .pt2 file, whose dropout can be seen"
        raise wrong(path, "be written by mcdrop.export", "no metadata of it", remedy)
    return None, metadata


def example_rows(program: torch.export.ExportedProgram) -> Any:
    """Return the inputs that a program was exported with.

    Raises:
        UnsupportedError: If the program holds none.
    """
    example = program.example_inputs
    if example is None:
        raise UnsupportedError.of(
            "mcdrop inspect",
            "data",
            "be given for a program that holds no example",
            "none",
            "Pass a few inputs: .npy, .npz, .csv, .parquet or .pt",
        )
    args, kwargs = example
    return args if not kwargs else kwargs if not args else args[0]


def passes_asked_for(text: str) -> int | Literal["auto"]:
    """Return the number of passes, or "auto".

    Raises:
        UnsupportedError: If it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise UnsupportedError.of(
            "mcdrop predict", "--n-samples", "be a number or auto", repr(text), "Pass 100"
        ) from None
