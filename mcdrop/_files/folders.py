"""Rows of a folder of Parquet files, in the order of their names, as if they were one file."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from mcdrop._disk.faults import require_file, wrong
from mcdrop._files.blocks import Block
from mcdrop._files.columns import FUNCTION, first_bad, not_finite
from mcdrop._files.tables import ParquetSource
from mcdrop.errors import UnsupportedError

__all__ = ["FolderSource"]


class FolderSource:
    """Rows of every .parquet file of a folder; row numbers run on from one file to the next.

    Files whose names begin with "." or "_" are left out, as in Spark and Arrow; folders inside it
    are not read. Every file is opened once before anything runs, so that one whose columns differ
    is refused then.

    Args:
        path: The folder.
        inputs: Columns that are inputs, or None for all of the first file that are no ids.
        ids: Columns that are ids.
    """

    def __init__(self, path: Path, inputs: Sequence[str] | None, ids: Sequence[str]) -> None:
        self._path = path
        found = (each for each in sorted(path.glob("*.parquet")) if each.name[0] not in "._")
        self._files = [each for each in found if each.is_file()]
        if not self._files:
            remedy = "Name the folder that holds them"
            raise wrong(path, "hold .parquet files", "none", remedy, function=FUNCTION)
        self._inputs, self._ids = inputs, ids
        first = self._opened(0)
        if inputs is None:
            self._inputs = first.columns.inputs
        self.width = first.width
        self.id_schema = first.id_schema
        counts = [first.n_rows or 0]
        for number in range(1, len(self._files)):
            counts.append(self._count(number, first.schema))
        self._ends = list(accumulate(counts))
        self.n_rows: int | None = self._ends[-1]

    def pieces(self) -> Iterator[Block]:
        """Yield the rows in order.

        Raises:
            UnsupportedError: If a file is damaged.
        """
        for number, begin in enumerate([0, *self._ends[:-1]]):
            for block in self._opened(number).pieces():
                yield replace(block, first=begin + block.first)

    def place(self, row: int) -> str:
        """Return the number of the row, its file, and its row and row group there."""
        number, inside = self._at(row)
        return f"row {row} ({self._files[number].name}: {self._opened(number).place(inside)})"

    def check(self, block: Block) -> None:
        """Refuse an empty cell, NaN or infinity, by file, row and column."""
        bad = first_bad(block.inputs)
        if bad is not None:
            column = self._opened(0).columns.inputs[bad[1]]
            place = f"{self.place(block.first + bad[0])}, column {column!r}"
            raise not_finite(self._path, block.inputs[bad], place)

    def _opened(self, number: int) -> ParquetSource:
        require_file(self._files[number])
        return ParquetSource(self._files[number], self._inputs, self._ids)

    def _at(self, row: int) -> tuple[int, int]:
        """Return the file of a row, and its number there."""
        number = bisect.bisect_right(self._ends, row)
        return number, row - ([0, *self._ends][number])

    def _count(self, number: int, schema: Any) -> int:
        """Return the number of rows of a file, whose columns have to be those of the first."""
        source = self._opened(number)
        for field, other in zip(source.schema, schema, strict=True):
            if field.type != other.type:
                raise UnsupportedError.of(
                    FUNCTION,
                    "data",
                    f"have columns of one type in all files of {self._path.name}",
                    f"{field.name!r} ({field.type}) in {self._files[number].name} after "
                    f"({other.type}) in {self._files[0].name}",
                    "Write them alike, or name other columns",
                )
        return source.n_rows or 0
