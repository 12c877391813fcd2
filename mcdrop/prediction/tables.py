"""Predictions as tables: names of columns and rows, and the files that hold tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop._disk.atomic import writing
from mcdrop.checks import require_installed
from mcdrop.errors import UnsupportedError

__all__ = [
    "checked_suffix",
    "columns_of",
    "index_from",
    "index_to_plain",
    "plain_label",
    "require_no_table",
    "write_table",
]

Arrays = Mapping[str, npt.NDArray[Any]]

# What `save` writes, by the suffix of the file: all of a prediction, or tables for other programs.
TABLES = (".npz", ".csv", ".parquet")
SUFFIXES = (".pt", *TABLES)

_TIMES = ("datetime64[", "timedelta64[", "period[")


def columns_of(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return one column per number of a row: "mean", or "mean_0_1" for row[0, 1].

    Dimensions of size 1 are not counted, so that (N, 1) is one column "mean".

    Args:
        arrays: Quantities by name, rows first.
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, values in arrays.items():
        sizes = [size for size in values.shape[1:] if size != 1]
        flat = values.reshape(len(values), -1)
        for place, index in enumerate(product(*map(range, sizes))):
            columns["_".join([name, *map(str, index)])] = flat[:, place]
    return columns


def require_no_table(function: str, path: str | Path) -> None:
    """Refuse to read a prediction from a table, which holds the part of it that others can use."""
    if Path(path).suffix.lower() in TABLES:
        raise UnsupportedError.of(
            function,
            "path",
            "be a .pt file, the one kind that holds all of a prediction",
            Path(path).name,
            'Save it with save("prediction.pt"); other programs read the other kinds',
        )


def checked_suffix(function: str, path: str | Path) -> str:
    """Return the suffix of a file to write; refuse one that says nothing.

    Raises:
        UnsupportedError: If it is not one of `SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnsupportedError.of(
            function,
            "path",
            f"end in one of {', '.join(SUFFIXES)}",
            repr(Path(path).name),
            "Write prediction.pt to load it again, or a table for other programs",
        )
    return suffix


def write_table(function: str, path: Path, arrays: Arrays, index: Any) -> None:
    """Write a .npz file of arrays, or a .csv or .parquet table with one row per input row.

    Args:
        function: Public function to name in errors.
        path: File to write; its suffix decides.
        arrays: Quantities by name; those laid out passes first go into .npz alone.
        index: pandas index of the rows, which is written too unless it counts them; or None.

    Raises:
        UnsupportedError: If pandas, or pyarrow for .parquet, is not installed, or the file cannot
            hold the labels of the index.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with writing(path) as file:
            # np.savez takes any names; allow_pickle=False refuses objects.
            np.savez(file, allow_pickle=False, **arrays)
        return
    require_installed(function, "pandas", "files")
    import pandas as pd

    table = pd.DataFrame(columns_of(arrays), index=index)
    counts_rows = isinstance(table.index, pd.RangeIndex) and table.index.name is None
    if suffix == ".parquet":
        require_installed(function, "pyarrow", "files")
    try:
        with writing(path) as file:
            if suffix == ".csv":
                table.to_csv(file, index=not counts_rows)
            else:
                table.to_parquet(file, index=not counts_rows)
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedError.of(
            function,
            "index",
            f"have labels that {suffix} can hold",
            f"{table.index.dtype} ({reason})",
            "Label the rows by one type of numbers or text",
        ) from error


def index_to_plain(index: Any) -> dict[str, Any] | None:
    """Return a pandas index as labels, names and types that JSON can hold; dates become text."""
    if index is None:
        return None
    levels = index.dtypes if index.nlevels > 1 else [index.dtype]
    return {
        "labels": [plain_label(label) for label in index],
        "names": list(index.names),
        "types": [str(each) for each in levels],
    }


def plain_label(label: Any) -> Any:
    """Return a label as JSON holds it; tuples stay tuples."""
    if isinstance(label, tuple):
        return tuple(plain_label(part) for part in label)
    label = label.item() if isinstance(label, np.generic) else label
    return label if isinstance(label, bool | int | float | str) else str(label)


def index_from(plain: Mapping[str, Any] | None) -> Any:
    """Return the pandas index of `index_to_plain`; None if pandas is not installed."""
    if plain is None:
        return None
    try:
        import pandas as pd
    except ImportError:
        return None
    labels = plain["labels"]
    names = [tuple(name) if isinstance(name, list) else name for name in plain["names"]]
    types = plain.get("types", [""] * len(names))
    if len(names) == 1:
        return _level(labels, types[0]).rename(names[0])
    levels = zip(*labels, strict=True) if labels else [()] * len(names)
    made = [_level(list(level), kind) for level, kind in zip(levels, types, strict=True)]
    return pd.MultiIndex.from_arrays(made, names=names)


def _level(labels: list[Any], kind: str) -> Any:
    """Return labels as an index; times, which JSON holds as text, as times."""
    import pandas as pd

    try:
        index = pd.Index(labels)
    except UnicodeEncodeError:
        # Arrow, which holds the text of pandas 3, knows no names of files that are not Unicode.
        return pd.Index(labels, dtype=object)
    return index.astype(kind) if kind.startswith(_TIMES) else index
