"""Rows of Parquet and CSV files, read as a stream."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from mcdrop._disk.faults import arrow_file, wrong
from mcdrop._files.blocks import Block
from mcdrop._files.columns import (
    FUNCTION,
    Columns,
    first_bad,
    is_number,
    not_finite,
    not_numeric,
)

__all__ = ["CsvSource", "ParquetSource"]

# Rows of one piece, bytes of CSV, and bytes of a column of Parquet that are read at a time: small
# beside a block, large beside their overhead.
_ROWS = 2**14
_BYTES = 2**22
_BUFFER = 2**16


class _Table:
    """What both kinds of table share.

    Args:
        path: File to read.
        columns: Which columns are read.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns

    @property
    def columns(self) -> Columns:
        """Which columns are read."""
        return self._columns

    def check(self, block: Block) -> None:
        """Refuse an empty cell, NaN or infinity, by row and column."""
        bad = first_bad(block.inputs)
        if bad is not None:
            column = self._columns.inputs[bad[1]]
            place = f"{self.place(block.first + bad[0])}, column {column!r}"
            raise not_finite(self._path, block.inputs[bad], place)

    def place(self, row: int) -> str:
        """Return the number of the row."""
        return f"row {row}"

    @property
    def width(self) -> int:
        """Numbers that a row of inputs holds."""
        return len(self._columns.inputs)

    def _block(self, first: int, table: Any) -> Block:
        return Block(first, self._columns.numbers(table), table.select(self._columns.ids))


class ParquetSource(_Table):
    """Rows of a Parquet file.

    Args:
        path: File to read.
        inputs: Columns that are inputs, or None for all that are no ids.
        ids: Columns that are ids.
    """

    def __init__(self, path: Path, inputs: Sequence[str] | None, ids: Sequence[str]) -> None:
        from pyarrow import ArrowException, parquet

        try:
            # A row group may be as large as the file, and what is read ahead stays in memory.
            self._file = parquet.ParquetFile(
                arrow_file(path), buffer_size=_BUFFER, pre_buffer=False
            )
        except (ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        schema = self._file.schema_arrow
        super().__init__(path, Columns.of(path, schema.names, inputs, ids))
        text = [
            f"{name!r} ({schema.field(name).type})"
            for name in self._columns.inputs
            if not is_number(schema.field(name).type)
        ]
        if text:
            raise not_numeric(path, f"column {', '.join(text[:5])}")
        import pyarrow as pa

        self.schema = pa.schema([schema.field(name) for name in self._columns.read])
        self.id_schema = pa.schema([schema.field(name) for name in self._columns.ids])
        groups = self._file.metadata
        self.n_rows: int | None = groups.num_rows
        sizes = (groups.row_group(i).num_rows for i in range(groups.num_row_groups))
        self._ends = list(accumulate(sizes))

    def pieces(self) -> Iterator[Block]:
        """Yield the rows in order.

        Raises:
            UnsupportedError: If the file is damaged.
        """
        import pyarrow as pa

        first = 0
        try:
            for batch in self._file.iter_batches(
                _ROWS, columns=self._columns.read, use_threads=False
            ):
                yield self._block(first, pa.Table.from_batches([batch]))
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self._path, error, self._first_damaged(first)) from error

    def place(self, row: int) -> str:
        """Return the number of the row and of its row group."""
        return f"row {row} (row group {self._group(row)})"

    def _group(self, row: int) -> int:
        return bisect.bisect_right(self._ends, row)

    def _first_damaged(self, row: int) -> str:
        """Name the first row group and column, from that of a row on, that cannot be read."""
        import pyarrow as pa

        for group in range(self._group(row), len(self._ends)):
            for name in self._columns.read:
                try:
                    self._file.read_row_group(group, columns=[name], use_threads=False)
                except (pa.ArrowException, OSError):
                    return f"row group {group}, column {name!r}"
        return f"{self.place(row)} on"


class CsvSource(_Table):
    """Rows of a CSV file with a header: inputs are float64, ids text as it stands there.

    Args:
        path: File to read.
        inputs: Columns that are inputs, or None for all that are no ids.
        ids: Columns that are ids.
    """

    n_rows: int | None = None

    def __init__(self, path: Path, inputs: Sequence[str] | None, ids: Sequence[str]) -> None:
        import pyarrow as pa

        super().__init__(path, Columns((), ()))
        self._has_one_column = False
        try:
            with self._open({}) as reader:
                names = reader.schema.names
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error
        # In a table of one column an empty line is an empty cell, not a line to skip.
        self._has_one_column = len(names) == 1
        self._columns = Columns.of(path, names, inputs, ids)
        self.id_schema = pa.schema([(name, pa.string()) for name in self._columns.ids])

    def pieces(self) -> Iterator[Block]:
        """Yield the rows in order.

        Raises:
            UnsupportedError: If a cell of an input is no number, or rows differ in their number of
                cells.
        """
        import pyarrow as pa

        # An input that is an id as well is copied as the number it is read as.
        numbers = dict.fromkeys(self._columns.inputs, pa.float64())
        first = 0
        try:
            with self._open({name: pa.string() for name in self._columns.ids} | numbers) as reader:
                for batch in reader:
                    yield self._block(first, self._typed(pa.Table.from_batches([batch])))
                    first += batch.num_rows
        except pa.ArrowException as error:
            self._find_text(first)
            raise _damaged(self._path, error, f"row {first} on") from error

    def _typed(self, table: Any) -> Any:
        """Return the table with ids as text, also those that are inputs."""
        import pyarrow as pa

        for name in self._columns.ids:
            if table.schema.field(name).type != pa.string():
                place = table.column_names.index(name)
                table = table.set_column(place, name, table[name].cast(pa.string()))
        return table

    def _find_text(self, first: int) -> None:
        """Name the first cell of an input that is no number, if that was it.

        Args:
            first: A row before which all are good.
        """
        import pyarrow as pa

        row = 0
        kinds = dict.fromkeys(self._columns.read, pa.string())
        try:
            with self._open(kinds) as reader:
                for batch in reader:
                    if row + batch.num_rows > first:
                        self._refuse_text(row, pa.Table.from_batches([batch]))
                    row += batch.num_rows
        except pa.ArrowException:
            return  # The file is damaged in another way, which the first error tells.

    def _refuse_text(self, first: int, table: Any) -> None:
        cells = zip(*(table[name].to_pylist() for name in self._columns.inputs), strict=True)
        for row, values in enumerate(cells, first):
            for name, value in zip(self._columns.inputs, values, strict=True):
                if not _reads_as_number(value):
                    raise not_numeric(self._path, f"{value!r} in row {row}, column {name!r}")

    def _open(self, kinds: dict[str, Any]) -> Any:
        from pyarrow import csv

        return csv.open_csv(
            arrow_file(self._path),
            read_options=csv.ReadOptions(block_size=_BYTES),
            parse_options=csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=not self._has_one_column
            ),
            convert_options=csv.ConvertOptions(
                column_types=kinds, include_columns=list(kinds), strings_can_be_null=False
            ),
        )


def _reads_as_number(text: str) -> bool:
    """Whether Arrow reads a cell as a number or as missing."""
    import pyarrow as pa
    from pyarrow import csv

    if text in csv.ConvertOptions().null_values:
        return True
    try:
        pa.scalar(text.strip(" \t")).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _damaged(path: Path, error: Exception, place: str = "") -> Exception:
    where = f"{place}: " if place else ""
    condition = f"be a {path.suffix} table"
    return wrong(path, condition, f"{where}{error}", "Write it anew", function=FUNCTION)
