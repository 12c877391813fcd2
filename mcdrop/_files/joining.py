"""Parts joined into one file, a part at a time in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mcdrop._files.blocks import Block
from mcdrop._files.columns import FUNCTION
from mcdrop._files.parts import Part
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["JOINERS", "check_id_kinds", "check_ids"]

# Rows of a row group; parts may be smaller.
_GROUP = 2**16


def check_id_kinds(suffix: str, schema: Any) -> None:
    """Refuse ids that a file of this kind cannot hold, before any work is done for them.

    Args:
        suffix: Suffix of the output.
        schema: Arrow schema of the ids.

    Raises:
        UnsupportedError: If a column is of such a kind.
    """
    for field in schema:
        if suffix == ".csv":
            _csv_text(field)
        elif suffix == ".npz":
            _npz_dtype(field)


def check_ids(suffix: str, block: Block, place: Callable[[int], str]) -> None:
    """Refuse missing ids for an archive, whose arrays know none.

    Args:
        suffix: Suffix of the output.
        block: The rows.
        place: Where a row lies, for errors.

    Raises:
        UnsupportedError: If an id is missing.
    """
    for name in block.ids.column_names if suffix == ".npz" else ():
        missing = block.ids[name].is_null().to_pylist()
        if any(missing):
            raise UnsupportedError.of(
                FUNCTION,
                "id_columns",
                "be present in every row of a .npz file",
                f"none in {name!r} of {place(block.first + missing.index(True))}",
                "Write .parquet or .csv, or fill it in",
            )


def _join_parquet(parts: Sequence[Part], file: BinaryIO) -> None:
    from pyarrow import parquet

    schema = parts[0].schema()
    with parquet.ParquetWriter(file, schema) as writer:
        for table in _tables(parts):
            writer.write_table(table)


def _join_csv(parts: Sequence[Part], file: BinaryIO) -> None:
    from pyarrow import csv

    schema = parts[0].schema()
    with csv.CSVWriter(file, schema) as writer:
        for table in _tables(parts):
            writer.write_table(table)


def _tables(parts: Sequence[Part]) -> Iterator[Any]:
    """Yield the tables of parts, small ones put together."""
    import pyarrow as pa

    held: list[Any] = []
    for part in parts:
        held.append(part.table().replace_schema_metadata(None))
        if sum(table.num_rows for table in held) >= _GROUP or part is parts[-1]:
            # One chunk, so that it becomes one row group or one batch of lines.
            yield pa.concat_tables(held).combine_chunks()
            held = []


def _join_npz(parts: Sequence[Part], file: BinaryIO) -> None:
    """Write one array per id column and quantity, each through its parts in turn."""
    first = parts[0].metadata()
    n_rows = parts[-1].end
    schema = parts[0].schema()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in first["ids"]:
            dtype = _npz_dtype(schema.field(name))
            if dtype.kind == "U":
                width = max(max(map(len, _texts(part, name)), default=1) for part in parts)
                dtype = np.dtype(f"<U{max(1, width)}")
            arrays = (_ids(part, name, dtype) for part in parts)
            _add_array(archive, name, dtype, (n_rows,), arrays)
        for name, (columns, shape, kind) in first["arrays"].items():
            arrays = (_array(part, columns) for part in parts)
            _add_array(archive, name, np.dtype(kind), (n_rows, *shape), arrays)


def _add_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    arrays: Iterator[npt.NDArray[Any]],
) -> None:
    """Write an array of an archive from parts of its rows, as `np.savez` would."""
    head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, head)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype).tobytes())


def _array(part: Part, columns: Sequence[str]) -> npt.NDArray[Any]:

    table = part.table(columns)
    return np.column_stack([table[name].to_numpy() for name in columns])


def _texts(part: Part, name: str) -> list[str]:

    found: list[str] = part.table([name])[name].to_pylist()
    return found


def _ids(part: Part, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:

    if dtype.kind == "U":
        return np.array(_texts(part, name), dtype)
    column = part.table([name])[name]
    return np.asarray(column.to_numpy()).astype(dtype, copy=False)


def _npz_dtype(field: Any) -> np.dtype[Any]:
    """Return the dtype of ids in an archive; text is as wide as the longest turns out to be."""
    import pyarrow as pa
    from pyarrow import types

    kind = field.type
    if types.is_string(kind) or types.is_large_string(kind):
        return np.dtype("U")
    if types.is_timestamp(kind) and kind.tz is not None:
        raise _cannot_hold(".npz", field)
    try:
        found = np.dtype(kind.to_pandas_dtype()) if not types.is_date(kind) else np.dtype("M8[D]")
    except (NotImplementedError, TypeError, pa.ArrowException) as error:
        raise _cannot_hold(".npz", field) from error
    if found.hasobject or found.kind not in "buifM":
        raise _cannot_hold(".npz", field)
    return found


def _csv_text(field: Any) -> None:
    """Write one id, empty, to see whether CSV can hold its kind."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        csv.write_csv(pa.table({"id": pa.nulls(1, field.type)}), pa.BufferOutputStream())
    except (pa.ArrowException, NotImplementedError) as error:
        raise _cannot_hold(".csv", field) from error


def _cannot_hold(suffix: str, field: Any) -> McdropError:
    return UnsupportedError.of(
        FUNCTION,
        "id_columns",
        f"be of a kind that {suffix} can hold",
        f"{field.name!r} ({field.type})",
        "Write .parquet, which holds every kind",
    )


JOINERS: Mapping[str, Callable[[Sequence[Part], BinaryIO], None]] = {
    ".parquet": _join_parquet,
    ".csv": _join_csv,
    ".npz": _join_npz,
}
"""What writes a file of each kind."""
