"""Folds and given splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import RepeatedKFold

from mcdrop.comparison.splits import checked_splits, rows_of
from mcdrop.errors import RangeError, ShapeError

LABELS = np.array([0] * 6 + [1] * 4)


def test_folds_test_every_row_once() -> None:
    splits = checked_splits(3, 10, None, 0)
    tested = np.concatenate([test for _, test in splits])
    assert sorted(tested.tolist()) == list(range(10))
    assert all(len(set(train) | set(test)) == 10 for train, test in splits)
    again = checked_splits(3, 10, None, 1)
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(splits, again, strict=True))


def test_folds_of_classes_are_stratified() -> None:
    for _, test in checked_splits(2, 10, LABELS, 0):
        assert np.bincount(LABELS[test]).tolist() == [3, 2]


def test_splitters_and_given_rows_are_taken() -> None:
    assert len(checked_splits(RepeatedKFold(n_splits=2, n_repeats=3), 10, None, 0)) == 6
    mask = np.arange(10) < 7
    ((train, test),) = checked_splits([(mask, ~mask)], 10, None, 0)
    assert train.tolist() == list(range(7))
    assert test.tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, pd.DataFrame, list])
def test_rows_of_every_kind_of_table(kind: Any) -> None:
    table = kind([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = rows_of(table, np.array([2, 0]))
    np.testing.assert_array_equal(np.asarray(found), [[5, 6], [1, 2]])


@pytest.mark.parametrize(
    ("cv", "error", "text"),
    [
        (1, RangeError, "`cv` to be a number of folds from 2 to 10, a splitter, or pairs"),
        (11, RangeError, "but got 11"),
        (True, RangeError, "but got True"),
        (2.5, RangeError, "`cv` to hold pairs of row numbers, but got 2.5"),
        ([], ShapeError, "hold at least one split"),
        ([[0, 1, 2]], ShapeError, "hold pairs of training and test rows, but got list as split 0"),
        ([([0, 1], [1, 2])], RangeError, "keep test rows out of training, but got row 1 in both"),
        ([([0, 1], [10])], RangeError, "row numbers from 0 to 9"),
        ([([0, 1], [-1])], RangeError, "something else in split 0"),
        ([([0, 1], [])], RangeError, "at least one in each part"),
        ([([0, 1], [2])], ShapeError, "hold several test rows or several splits, but got 1 row"),
        ([([0.5], [1])], RangeError, "Pass positions, not labels of an index"),
    ],
)
def test_mistakes_are_named(cv: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        checked_splits(cv, 10, None, 0)


def test_a_rare_class_is_named() -> None:
    with pytest.raises(RangeError, match=r"every class at least 5 times.*4 rows of class 1"):
        checked_splits(5, 10, LABELS, 0)


def test_a_single_row_cannot_be_split() -> None:
    with pytest.raises(ShapeError, match="compare: expected `X` to hold rows .* but got 1 row"):
        checked_splits(5, 1, None, 0)
