"""The loop from a file of rows to the parts of its predictions, and from these to one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mcdrop._disk.atomic import writing
from mcdrop._disk.faults import require_file, wrong
from mcdrop._engine.progress import ProgressBar, progress_bar
from mcdrop._engine.record import Run
from mcdrop._files.archives import ArraySource
from mcdrop._files.blocks import Block, RowReader, RowSource
from mcdrop._files.columns import FUNCTION
from mcdrop._files.folders import FolderSource
from mcdrop._files.joining import JOINERS, check_id_kinds, check_ids
from mcdrop._files.parts import Part, PartFolder
from mcdrop._files.passes import Predicted
from mcdrop._files.tables import CsvSource, ParquetSource
from mcdrop._files.workers import Predictions
from mcdrop.errors import McdropError, OutputError, RangeError, ShapeError, UnsupportedError
from mcdrop.prediction.tables import columns_of

__all__ = ["Streamed", "open_source", "stream"]

# Rows of a block by default, and numbers of its inputs where rows are wide: 64 MiB of float32.
_ROWS = 2**16
_NUMBERS = 2**24


@dataclass(frozen=True)
class Streamed:
    """What a run did.

    Attributes:
        n_rows: Rows of the output.
        n_kept: Rows that an earlier run had finished.
        run: How the passes of the last block ran; None if there were none left.
    """

    n_rows: int
    n_kept: int
    run: Run | None


def open_source(path: Path, columns: Sequence[str] | None, ids: Sequence[str]) -> RowSource:
    """Open a file of rows by its suffix.

    Args:
        path: A .parquet, .csv, .npz or .npy file, or a folder of .parquet files.
        columns: Names of the inputs, or None.
        ids: Names of the ids.

    Raises:
        UnsupportedError: If it is of another kind, damaged, or its inputs are no numbers.
        RangeError: If a column is missing.
        OSError: If it cannot be opened.
    """
    kinds: dict[str, Callable[[Path, Sequence[str] | None, Sequence[str]], RowSource]] = {
        ".parquet": ParquetSource,
        ".csv": CsvSource,
        ".npz": ArraySource,
        ".npy": ArraySource,
    }
    if path.is_dir():
        return FolderSource(path, columns, ids)
    suffix = path.suffix.lower()
    if suffix not in kinds:
        named = f"end in one of {', '.join(kinds)}, or be a folder of .parquet files"
        raise wrong(path, named, "", "Save it in one of these", function=FUNCTION)
    require_file(path)
    return kinds[suffix](path, columns, ids)


def stream(
    source: RowSource,
    predictions: Predictions,
    out: Path,
    settings: Mapping[str, Any],
    *,
    batch_rows: int | None,
    resume: bool,
    progress: bool,
) -> Streamed:
    """Predict the rows of a file that no earlier run has finished, and join all parts.

    Args:
        source: The rows.
        predictions: Predicts blocks of them, in order.
        out: File to write.
        settings: What the numbers depend on, as plain values.
        batch_rows: Rows per block, or None to choose.
        resume: Whether parts of an earlier run are kept.
        progress: Whether to show a progress bar on standard error.

    Raises:
        McdropError: If rows, model or settings are at fault; finished parts are kept.
        OSError: If a file cannot be written; finished parts are kept.
    """
    suffix = out.suffix.lower()
    check_id_kinds(suffix, source.id_schema)
    rows = batch_rows or max(2, min(_ROWS, _NUMBERS // max(1, source.width)))
    folder = PartFolder(out)
    finished = False
    try:
        with (
            folder.locked(),
            progress_bar(FUNCTION, "rows", source.n_rows, show=progress) as bar,
        ):
            folder.begin(settings, resume=resume)
            try:
                done = _Stream(source, predictions, folder, suffix, rows).run(bar)
                parts = folder.parts()
                if not parts:
                    raise _no_rows()
                with writing(out, beside=folder.path) as file:
                    JOINERS[suffix](parts, file)
                finished = True
            finally:
                if finished or not any(folder.path.glob("rows-*")):
                    folder.remove()
    except OSError as error:
        if error.errno is None:
            raise
        kept = f"{error.strerror}; finished rows are kept in {folder.path.name}"
        raise type(error)(error.errno, kept, error.filename or str(out)) from error
    return done


def _no_rows() -> McdropError:
    return ShapeError.of(FUNCTION, "data", "have at least one row", "an empty file", "Pass data")


class _Stream:
    """One run over the rows of a file."""

    def __init__(
        self,
        source: RowSource,
        predictions: Predictions,
        folder: PartFolder,
        suffix: str,
        n_rows: int,
    ) -> None:
        self._source, self._predictions, self._folder = source, predictions, folder
        self._suffix, self._n_rows = suffix, n_rows
        self._reader = RowReader(source)
        self._schema: Any = None

    def run(self, bar: ProgressBar) -> Streamed:
        """Predict what is not finished yet."""
        n_kept = 0
        for part in self._folder.parts():
            self._require_same_rows(part)
            self._require_same_schema(part.schema())
            n_kept = part.end
            bar.advance(part.end - part.first)
        n_rows, run = n_kept, None
        for block, prediction in self._predictions(self._blocks()):
            run = self._finish(block, prediction)
            n_rows = block.end
            bar.advance(len(block))
        return Streamed(n_rows, n_kept, run)

    def _blocks(self) -> Iterator[Block]:
        """Yield what is left to predict."""
        while (block := self._reader.take_block(self._n_rows)) is not None:
            self._source.check(block)
            check_ids(self._suffix, block, self._source.place)
            yield block

    def _finish(self, block: Block, prediction: Predicted) -> Run | None:
        """Write the part of a block."""
        arrays = prediction.to_numpy()
        run = prediction.run
        metadata = {
            "rows": block.digest(),
            "ids": block.ids.column_names,
            "arrays": {name: _layout(name, array) for name, array in arrays.items()},
            "split": self._n_rows if run is not None and run.depends_on_batches else None,
        }
        table = _table(block, columns_of(arrays))
        self._require_same_schema(table.schema)
        self._folder.add(block.first, table, metadata)
        return run

    def _require_same_rows(self, part: Part) -> None:
        """Refuse to go on where finished rows have changed, or depend on another split."""
        found = part.metadata()
        block = self._reader.take(part.end - part.first)
        if block is None or block.end != part.end or block.digest() != found["rows"]:
            raise UnsupportedError.of(
                FUNCTION,
                "data",
                f"begin with the rows that are finished in {self._folder.path.name}",
                f"others among rows {part.first} to {part.end - 1}",
                "Pass the same data, or resume=False to begin anew",
            )
        if found["split"] not in (None, self._n_rows):
            raise RangeError.of(
                FUNCTION,
                "batch_rows",
                "stay the same where random numbers depend on the batch, as those of this model do",
                f"{self._n_rows} instead of {found['split']}",
                f"Pass batch_rows={found['split']}, or resume=False to begin anew",
            )

    def _require_same_schema(self, schema: Any) -> None:
        """Refuse predictions whose columns differ from those of the rows before."""
        if self._schema is None:
            self._schema = schema
        if not schema.equals(self._schema):
            raise OutputError.of(
                FUNCTION,
                "model",
                "return rows of one shape and type",
                f"{_difference(schema, self._schema)} after other rows",
                "Make its output independent of the batch",
            )


def _layout(name: str, array: npt.NDArray[Any]) -> tuple[list[str], tuple[int, ...], str]:
    """Return the columns that hold an array, and the shape and dtype of its rows."""
    return list(columns_of({name: array})), array.shape[1:], array.dtype.str


def _table(block: Block, columns: Mapping[str, npt.NDArray[Any]]) -> Any:
    """Return ids and predictions side by side."""
    import pyarrow as pa

    both = sorted({*block.ids.column_names} & columns.keys())
    if both:
        raise RangeError.of(
            FUNCTION,
            "id_columns",
            "have names of their own beside those of the predictions",
            both,
            "Rename the columns in the file",
        )
    ids = {name: block.ids[name] for name in block.ids.column_names}
    return pa.table({**ids, **{name: pa.array(x) for name, x in columns.items()}})


def _difference(schema: Any, other: Any) -> str:
    """Return the first columns that two schemas do not share."""
    found = sorted({str(field) for field in schema} ^ {str(field) for field in other})
    return ", ".join(found[:3])
