"""Rows of .npy and .npz files, read as a stream; nothing in them is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mcdrop._disk.faults import UNREADABLE, wrong
from mcdrop._files.blocks import Block
from mcdrop._files.columns import FUNCTION, Columns, first_bad, not_finite, not_numeric
from mcdrop._files.npy import Header, array_names, read_header, rows_of
from mcdrop.errors import RangeError

__all__ = ["ArraySource"]

# Bytes of one read.
_BYTES = 2**22
# A row is read as a whole; in a compressed file it takes a thousandth of that.
_LARGEST_ROW = 2**28


class ArraySource:
    """Rows of an array: the one in a .npy file, or one of a .npz file with ids beside it.

    Args:
        path: File to read.
        inputs: Name of the array of inputs as a sequence of one; None for "x", or for the only
            array that holds no ids.
        ids: Names of arrays of one id per row.
    """

    def __init__(self, path: Path, inputs: Sequence[str] | None, ids: Sequence[str]) -> None:
        import pyarrow as pa

        self._path = path
        names = self._names()
        if inputs is None and "x" in names:
            inputs = ["x"]
        columns = Columns.of(path, names, inputs, ids)
        if len(columns.inputs) > 1:
            raise RangeError.of(
                FUNCTION,
                "columns",
                f"name the one array of {path.name} that holds the inputs",
                list(columns.inputs),
                "Pass columns=[name]",
            )
        self._input, self._ids = columns.inputs[0], columns.ids
        headers = {name: self._header(name) for name in columns.read}
        self._read = columns.read
        header = headers[self._input]
        self.n_rows, self.width = header.shape[0], header.width
        self._step = max(1, _BYTES // max(1, header.row_bytes))
        if header.dtype.kind not in "buif":
            raise not_numeric(path, f"{self._input!r} of dtype {header.dtype}")
        for name, each in headers.items():
            if each.row_bytes > _LARGEST_ROW:
                condition = f"have rows of at most {_LARGEST_ROW:,} bytes in {name!r}"
                raise self._wrong(condition, f"{each.row_bytes:,}", "Put rows first")
        for name in self._ids:
            if headers[name].shape != (self.n_rows,):
                condition = f"hold {self.n_rows} ids in {name!r}, one per row"
                raise self._wrong(condition, f"shape {headers[name].shape}", "Write one per row")
        try:
            empty = {name: pa.array(np.empty(0, headers[name].dtype)) for name in self._ids}
        except pa.ArrowException as error:
            condition = "hold ids that Arrow knows"
            raise self._wrong(condition, error, "Leave them out") from error
        self.id_schema = pa.table(empty).schema

    def pieces(self) -> Iterator[Block]:
        """Yield the rows in order.

        Raises:
            UnsupportedError: If the file ends too early or is damaged.
        """
        import pyarrow as pa

        first = 0
        try:
            with ExitStack() as stack:
                take = {name: rows_of(self._path, name, stack) for name in self._read}
                while first < self.n_rows:
                    count = min(self._step, self.n_rows - first)
                    found = {name: rows(first, count) for name, rows in take.items()}
                    ids = pa.table({name: pa.array(found[name]) for name in self._ids})
                    yield Block(first, found[self._input], ids)
                    first += count
        except UNREADABLE as error:
            raise self._wrong("be whole", f"row {first} on: {error}", "Write it anew") from error

    def place(self, row: int) -> str:
        """Return the number of the row."""
        return f"row {row}"

    def check(self, block: Block) -> None:
        """Refuse NaN and infinity, by row and place within it."""
        bad = first_bad(block.inputs)
        if bad is not None:
            at = f", place {list(bad[1:])}" if bad[1:] else ""
            place = f"{self.place(block.first + bad[0])}{at}"
            raise not_finite(self._path, block.inputs[bad], place)

    def _names(self) -> list[str]:
        try:
            return array_names(self._path)
        except UNREADABLE as error:
            raise self._wrong("be an archive of arrays", error, "Write it anew") from error

    def _header(self, name: str) -> Header:
        try:
            header = read_header(self._path, name)
        except UNREADABLE as error:
            raise self._wrong(f"hold an array as {name!r}", error, "Write it anew") from error
        if not header.shape:
            raise self._wrong(f"have rows in {name!r}", "a single number", "Put rows first")
        return header

    def _wrong(self, condition: str, found: object, remedy: str) -> Exception:
        return wrong(self._path, condition, found, remedy, function=FUNCTION)
