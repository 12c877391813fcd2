"""Training and test rows: cross-validation, or splits that are given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop.errors import RangeError, ShapeError

__all__ = ["Split", "checked_splits", "rows_of"]

FUNCTION = "compare"
Index = npt.NDArray[np.int64]
Split = tuple[Index, Index]


def checked_splits(
    cv: Any, n_rows: int, labels: npt.NDArray[Any] | None, random_state: int
) -> list[Split]:
    """Return pairs of training and test rows.

    Args:
        cv: Number of folds; a splitter of scikit-learn; or pairs of index arrays.
        n_rows: Rows of the table.
        labels: Classes to stratify folds by, or None.
        random_state: Seed of the shuffling.
    """
    if n_rows < 2:
        raise ShapeError.of(
            FUNCTION, "X", "hold rows to train and to test on", f"{n_rows} row", "Pass more rows"
        )
    if isinstance(cv, bool) or (isinstance(cv, int | np.integer) and not 2 <= cv <= n_rows):
        raise RangeError.of(
            FUNCTION,
            "cv",
            f"be a number of folds from 2 to {n_rows}, a splitter, or pairs of row numbers",
            repr(cv),
            "Pass cv=5, or [(train_rows, test_rows)] for one split",
        )
    zeros = np.zeros((n_rows, 1))
    if isinstance(cv, int | np.integer):
        pairs = _folds(int(cv), labels, random_state).split(zeros, labels)
    elif hasattr(cv, "split"):
        pairs = cv.split(zeros, labels)
    else:
        pairs = cv
    if not isinstance(pairs, Iterable):
        raise RangeError.of(
            FUNCTION, "cv", "hold pairs of row numbers", repr(cv), "Pass a number of folds"
        )
    found = [_checked(number, pair, n_rows) for number, pair in enumerate(pairs)]
    if not found:
        raise ShapeError.of(FUNCTION, "cv", "hold at least one split", "none", "Pass cv=5")
    if len(found) == 1 and len(found[0][1]) < 2:
        raise ShapeError.of(
            FUNCTION, "cv", "hold several test rows or several splits", "1 row", "Test more rows"
        )
    return found


def _folds(n_folds: int, labels: npt.NDArray[Any] | None, random_state: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold

    if labels is None:
        return KFold(n_folds, shuffle=True, random_state=random_state)
    rarest = int(np.bincount(labels).min())
    if rarest < n_folds:
        raise RangeError.of(
            FUNCTION,
            "y",
            f"hold every class at least {n_folds} times, once per fold",
            f"{rarest} rows of class {int(np.bincount(labels).argmin())}",
            "Pass fewer folds, or more rows",
        )
    return StratifiedKFold(n_folds, shuffle=True, random_state=random_state)


def _checked(number: int, pair: Any, n_rows: int) -> Split:
    """Return one pair as row numbers that do not overlap."""
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise ShapeError.of(
            FUNCTION,
            "cv",
            "hold pairs of training and test rows",
            f"{type(pair).__name__} as split {number}",
            "Pass [(train_rows, test_rows), ...]",
        )
    train, test = (_rows(number, rows, n_rows) for rows in pair)
    shared = np.intersect1d(train, test)
    if shared.size:
        raise RangeError.of(
            FUNCTION,
            "cv",
            "keep test rows out of training",
            f"row {shared[0]} in both parts of split {number}",
            "Split the rows without overlap",
        )
    return train, test


def _rows(number: int, rows: Any, n_rows: int) -> Index:
    """Return row numbers, from a boolean mask too."""
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (n_rows,):
        found = np.flatnonzero(found)
    integers = found.ndim == 1 and found.dtype.kind in "iu" and found.size > 0
    if not integers or found.min() < 0 or found.max() >= n_rows:
        raise RangeError.of(
            FUNCTION,
            "cv",
            f"hold row numbers from 0 to {n_rows - 1}, at least one in each part",
            f"something else in split {number}",
            "Pass positions, not labels of an index",
        )
    index: Index = found.astype(np.int64)
    return index


def rows_of(X: Any, rows: Index) -> Any:
    """Return some rows of a Tensor, ndarray, DataFrame or list."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else np.asarray(X)[rows]
