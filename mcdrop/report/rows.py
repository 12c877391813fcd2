"""The rows to look at: those with the worst errors and those that are least sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.displays._classification import Classification
from mcdrop.displays._regression import Regression
from mcdrop.errors import ShapeError
from mcdrop.report.values import RowTable

__all__ = ["checked_ids", "rows_to_look_at", "table_of"]

_SHOWN = 8


def checked_ids(ids: Any, n_rows: int) -> tuple[str, ...]:
    """Return one name per row; the row number where none are given.

    Raises:
        ShapeError: If there is not one id per row.
    """
    if ids is None:
        return tuple(str(i) for i in range(n_rows))
    names = np.asarray(ids.cpu() if isinstance(ids, torch.Tensor) else ids)
    if names.shape != (n_rows,):
        raise ShapeError.of(
            "calibration_report",
            "ids",
            f"have shape ({n_rows},), one name per row",
            names.shape,
            "Pass the ids of the rows of the prediction",
        )
    return tuple(str(name) for name in names.tolist())


def rows_to_look_at(
    judged: Classification | Regression, ids: Sequence[str], class_names: Sequence[str] | None
) -> tuple[RowTable, ...]:
    """Return the rows with the worst errors, and the least sure ones."""
    if isinstance(judged, Classification):
        return _of_classes(judged, ids, class_names)
    return _of_numbers(judged, ids)


def _of_classes(
    c: Classification, ids: Sequence[str], class_names: Sequence[str] | None
) -> tuple[RowTable, ...]:
    """Return the rows whose class was least expected, and those of the largest entropy."""

    def named(label: Any) -> str:
        return str(int(label)) if class_names is None else str(class_names[int(label)])

    given = c.prediction.probs.gather(1, c.y.unsqueeze(1)).squeeze(1).numpy()
    columns: dict[str, list[Any]] = {
        "predicted": [named(label) for label in c.prediction.labels],
        "true": [named(label) for label in c.y],
        "probability of the true class": [float(p) for p in given],
        "confidence": [float(p) for p in c.confidence],
        "predictive entropy (nats)": [float(u) for u in c.uncertainty],
    }
    return (
        table_of("Least expected", "lowest probability of the true class", columns, ids, -given),
        table_of("Least sure", "largest predictive entropy", columns, ids, c.uncertainty),
    )


def _of_numbers(r: Regression, ids: Sequence[str]) -> tuple[RowTable, ...]:
    """Return the rows with the largest error, in stated deviations, and the largest deviation."""
    error = (r.y - r.prediction.mean).numpy()
    place = np.abs(error).argmax(axis=1)
    std = r.prediction.std.numpy()
    worst = np.take_along_axis(error, place[:, None], axis=1)[:, 0]
    spread = np.take_along_axis(std, place[:, None], axis=1)[:, 0]
    columns: dict[str, list[Any]] = {
        "predicted": _of_place(r.prediction.mean.numpy(), place),
        "target": _of_place(r.y.numpy(), place),
        "stated std": spread.tolist(),
        "error": worst.tolist(),
    }
    if error.shape[1] > 1:
        columns["output"] = [str(i) for i in place]
    if not r.has_spread:
        by = "largest error"
        return (table_of("Worst predicted", by, columns, ids, np.abs(worst)),)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(spread > 0, np.abs(worst) / spread, np.where(worst == 0, 0.0, np.inf))
    columns["error / std"] = [float(z) if np.isfinite(z) else "infinite" for z in scaled]
    by = "largest error in stated standard deviations"
    return (
        table_of("Least expected", by, columns, ids, scaled),
        table_of("Least sure", "largest stated standard deviation", columns, ids, r.uncertainty),
    )


def _of_place(values: npt.NDArray[np.float64], place: npt.NDArray[np.intp]) -> list[Any]:
    """Return one output of each row."""
    found: list[Any] = np.take_along_axis(values, place[:, None], axis=1)[:, 0].tolist()
    return found


def table_of(
    title: str,
    by: str,
    columns: dict[str, list[Any]],
    ids: Sequence[str],
    score: npt.NDArray[np.float64],
) -> RowTable:
    """Return the rows with the highest score; `columns` hold a value for each row."""
    order = np.argsort(-score, kind="stable")[:_SHOWN]
    rows = tuple((ids[i], *(values[i] for values in columns.values())) for i in order)
    return RowTable(title, by, ("row", *columns), rows, tuple(order.tolist()))
