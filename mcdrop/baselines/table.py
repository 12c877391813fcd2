"""Features and targets as the baselines take them: a finite matrix and one target per row.

Tensor, ndarray, DataFrame and lists become float64 NumPy arrays; nothing is imputed or dropped.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mcdrop._engine.arrays import is_pandas
from mcdrop.checks import require_finite
from mcdrop.errors import RangeError, ShapeError
from mcdrop.prediction.targets import numbers

__all__ = ["Columns", "Matrix", "column_names", "feature_matrix", "label_vector", "target_matrix"]

Matrix = npt.NDArray[np.float64]
Columns: TypeAlias = list[str] | None


def feature_matrix(
    function: str, X: Any, *, n_features: int | None = None, columns: Columns = None
) -> Matrix:
    """Return `X` as a finite float64 matrix (N, D), with D and columns as in the fit if known."""
    matrix = _numbers(function, "X", X)
    wanted = "D" if n_features is None else str(n_features)
    wrong_width = n_features is not None and matrix.ndim == 2 and matrix.shape[1] != n_features
    if matrix.ndim != 2 or 0 in matrix.shape or wrong_width:
        raise ShapeError.of(
            function,
            "X",
            f"have shape (N, {wanted}) with at least one row",
            matrix.shape,
            "Pass one row per example and the features of the fit, in the same order",
        )
    found = column_names(X)
    if columns is not None and found is not None and found != columns:
        alike = sorted(found) == sorted(columns)
        strange = [name for name in found if name not in columns]
        raise RangeError.of(
            function,
            "X",
            "have the columns of the fit",
            "them in another order" if alike else f"{strange[:5]} among them",
            "Pass X[columns of the fit], or X.to_numpy() if they match by place",
        )
    return matrix


def column_names(X: Any) -> Columns:
    """Return the names of the columns of a DataFrame; None where they are not all text."""
    names = list(X.columns) if is_pandas(X) and hasattr(X, "columns") else []
    return names if names and all(isinstance(name, str) for name in names) else None


def target_matrix(function: str, y: Any, n_rows: int) -> Matrix:
    """Return `y` as a finite float64 array of shape (N,) or (N, K)."""
    target = _numbers(function, "y", y)
    if target.ndim not in (1, 2) or target.shape[0] != n_rows or target.size == 0:
        raise ShapeError.of(
            function,
            "y",
            f"have shape ({n_rows},) or ({n_rows}, K) to match `X`",
            target.shape,
            "Pass one row of targets per row of X",
        )
    return target


def label_vector(function: str, y: Any, n_rows: int) -> npt.NDArray[np.int64]:
    """Return `y` as class indices (N,) in which every class from 0 to the largest occurs."""
    target = _numbers(function, "y", y)
    if target.shape not in ((n_rows,), (n_rows, 1)):
        raise ShapeError.of(
            function,
            "y",
            f"have shape ({n_rows},) to match `X`",
            target.shape,
            "Pass one label per row of X",
        )
    labels = target.reshape(-1).astype(np.int64)
    found = np.unique(labels)
    contiguous = found[0] == 0 and len(found) == found[-1] + 1 and len(found) > 1
    if not contiguous or bool((labels != target.reshape(-1)).any()):
        raise RangeError.of(
            function,
            "y",
            "hold class indices 0, 1, ..., C - 1, each at least once",
            f"the values {np.unique(target)[:10].tolist()}",
            "Encode the labels as class indices, and train on every class",
        )
    return labels


def _numbers(function: str, argument: str, values: Any) -> Matrix:
    """Return finite float64 numbers on the CPU."""
    found = numbers(function, argument, values).detach().cpu()
    require_finite(function, axis=0, **{argument: found})
    array: Matrix = found.numpy()
    return array
