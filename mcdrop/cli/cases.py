"""What there is to report on: a prediction and its targets, from files or the demonstration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop.cli.demonstration import demonstration
from mcdrop.cli.predictions import read_column, read_prediction
from mcdrop.cli.reading import read_array, read_arrays, read_program, wrong
from mcdrop.prediction.base import Prediction
from mcdrop.report.values import CheckOutcome
from mcdrop.wrapper import wrap

__all__ = ["Case", "FailIf", "case_of_files", "case_of_program", "demonstrated"]

_TABLES = (".npz", ".csv", ".parquet")


class FailIf(str, Enum):
    """When acceptance criteria make the command fail."""

    never = "never"
    fail = "fail"
    undecided = "undecided"

    def fails(self, outcome: CheckOutcome | None) -> bool:
        """Whether this outcome of all criteria is a failure."""
        if self is FailIf.never or outcome is None:
            return False
        return outcome == "fail" or (self is FailIf.undecided and outcome == "undecided")


@dataclass(frozen=True)
class Case:
    """A prediction with its targets and the columns of their files."""

    prediction: Prediction
    y: Any
    path: Path
    columns: Mapping[str, npt.NDArray[Any]]
    title: str = "Calibration report"
    baselines: dict[str, Prediction] = field(default_factory=dict)

    def column(self, name: str, option: str) -> npt.NDArray[Any]:
        """Return a column of the files, one value per row."""
        return read_column(self.path, self.columns, name, len(self.prediction), option)


def demonstrated() -> Case:
    """Return the demonstration."""
    prediction, y, baselines = demonstration()
    title = "Diabetes progression (demonstration)"
    return Case(prediction, y, Path("demonstration"), {}, title, baselines)


def case_of_files(
    prediction: Path, targets: Path | None, column: str, id_column: str | None = None
) -> Case:
    """Read a prediction, and its targets from a file of their own or from the same.

    Args:
        prediction: Its file.
        targets: File of the targets; None for the same.
        column: Name of the targets.
        id_column: Column that names the rows; where both files have it, they have to agree.
    """
    found = read_prediction(prediction)
    source = targets or prediction
    columns = dict(found.columns)
    n_rows = len(found.prediction)
    if targets is not None and targets.suffix in _TABLES:
        others = read_arrays(targets)
        if id_column in columns and id_column in others:
            _require_same_ids(targets, id_column, columns[id_column], others[id_column])
        columns |= others
    if source.suffix in _TABLES:
        y = read_column(source, columns, column, n_rows, "--column")
    elif targets is None:
        raise wrong(prediction, "come with its targets", "none", "Pass a file of targets as well")
    else:
        y = np.asarray(read_array(targets, column))
        if y.shape[:1] != (n_rows,):
            condition = f"have {n_rows} rows, as the prediction has"
            raise wrong(
                targets, condition, f"{len(y)} rows", "Pass the same rows in the same order"
            )
    return Case(found.prediction, _checked(source, column, y), source, columns)


def _require_same_ids(
    path: Path, name: str, wanted: npt.NDArray[Any], found: npt.NDArray[Any]
) -> None:
    """Refuse targets of other rows than those predicted."""
    if len(wanted) != len(found):
        return
    differs = np.flatnonzero(wanted.astype(str) != found.astype(str))
    if len(differs):
        row = int(differs[0])
        condition = f"have the ids of the prediction in {name!r}"
        told = f"{found[row]!r} for {wanted[row]!r} in row {row}"
        raise wrong(path, condition, told, "Write the same rows in the same order")


def case_of_program(
    program: Path,
    data: Path | None,
    column: str,
    options: Mapping[str, Any],
    aside: Collection[str] = (),
) -> Case:
    """Run a program on the inputs of a table or archive, which holds the targets as well.

    Args:
        program: A .pt2 file.
        data: Inputs and targets: numeric columns of a table, or "x" of an archive.
        column: Name of the targets.
        options: Of `predict_with_uncertainty`.
        aside: Columns that are no inputs, such as ids and groups.
    """
    if data is None or data.suffix not in _TABLES:
        remedy = "Pass .npz with x and the targets, or .csv or .parquet with one column per input"
        raise wrong(data or program, "come with inputs and targets", "none", remedy)
    columns = read_arrays(data)
    if column not in columns:
        found = f"columns {', '.join(map(repr, columns))}"
        raise wrong(data, f"have the column {column!r} of --column", found, "Name the targets")
    y = _checked(data, column, columns[column])
    if data.suffix == ".npz":
        if "x" not in columns:
            raise wrong(data, "hold the inputs as 'x'", f"{list(columns)}", "Rename the array")
        inputs = columns["x"]
    else:
        inputs = _inputs(
            data, {name: v for name, v in columns.items() if name not in {column, *aside}}
        )
    if len(inputs) != len(y):
        found = f"{len(inputs)} and {len(y)} rows"
        raise wrong(data, f"have as many rows in 'x' and {column!r}", found, "Write the same rows")
    prediction: Any = wrap(read_program(program)).predict_with_uncertainty(
        np.asarray(inputs, dtype=np.float32), keep_samples=True, progress=True, **options
    )
    return Case(prediction, y, data, columns, f"{program.stem} on {data.name}")


def _inputs(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the numeric columns side by side; text is left out, as ids and groups are."""
    numeric = {name: values for name, values in columns.items() if values.dtype.kind in "buif"}
    for name, values in numeric.items():
        _checked(path, name, values)
    if not numeric:
        raise wrong(path, "have columns of numbers", "none", "Pass the inputs of the program")
    return np.column_stack(list(numeric.values()))


def _checked(path: Path, column: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Refuse text and NaN in a column, by file, column and row."""
    if values.dtype.kind not in "buif":
        found = f"dtype {values.dtype}"
        raise wrong(path, f"hold numbers in {column!r}", found, "Encode labels as class numbers")
    bad = np.argwhere(~np.isfinite(values.astype(np.float64)))
    if len(bad):
        found = f"{values[tuple(bad[0])]} in row {int(bad[0][0])}"
        raise wrong(path, f"hold finite numbers in {column!r}", found, "Drop or repair this row")
    return values
