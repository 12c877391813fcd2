"""What the baselines take as features and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mcdrop
from mcdrop.baselines import (
    BayesianRidge,
    Deterministic,
    GaussianProcess,
    L2Network,
    LogisticL2,
    Ridge,
    Training,
)
from mcdrop.baselines.table import feature_matrix, label_vector, target_matrix

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        torch.from_numpy(X).float(),
        torch.from_numpy(X).requires_grad_(),
        pd.DataFrame(X),
        pd.DataFrame({"a": X[:, 0], "b": [True, False, True]}).assign(b=X[:, 1].astype(object)),
    ],
    ids=["array", "list", "float32", "with gradient", "frame", "frame of objects"],
)
def test_features_of_every_kind_become_one_matrix(given: Any) -> None:
    found = feature_matrix("f", given)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize("wrong", [X[0], np.zeros((0, 2)), np.zeros((2, 2, 2))])
def test_features_are_a_matrix(wrong: Any) -> None:
    with pytest.raises(mcdrop.ShapeError, match=r"f: expected `X` to have shape \(N, D\)"):
        feature_matrix("f", wrong)


def test_width_is_that_of_the_fit() -> None:
    with pytest.raises(mcdrop.ShapeError, match=r"have shape \(N, 3\) with at least one row"):
        feature_matrix("f", X, n_features=3)


def test_rows_with_nan_are_named() -> None:
    holed = X.copy()
    holed[[0, 2], 1] = [np.nan, np.inf]
    with pytest.raises(mcdrop.NonFiniteError, match="`X` to hold finite numbers.*in rows 0, 2"):
        feature_matrix("f", holed)


def test_targets_match_the_rows() -> None:
    assert target_matrix("f", [1, 2, 3], 3).shape == (3,)
    assert target_matrix("f", X, 3).shape == (3, 2)
    with pytest.raises(mcdrop.ShapeError, match=r"`y` to have shape \(4,\) or \(4, K\)"):
        target_matrix("f", X, 4)


def test_labels_are_class_indices() -> None:
    assert label_vector("f", torch.tensor([[0], [2], [1]]), 3).tolist() == [0, 2, 1]
    for wrong in ([0, 2, 2], [0.5, 0.0, 1.0], [1, 2, 3], [0, 0, 0]):
        with pytest.raises(mcdrop.RangeError, match="class indices 0, 1, ..., C - 1"):
            label_vector("f", wrong, 3)
    with pytest.raises(mcdrop.ShapeError, match=r"`y` to have shape \(3,\)"):
        label_vector("f", [0, 1], 3)


@pytest.mark.parametrize(
    "method",
    [
        Ridge(),
        BayesianRidge(),
        GaussianProcess(),
        LogisticL2(),
        L2Network((4,), weight_decay=[1e-4], training=Training(max_epochs=1)),
        Deterministic(torch.nn.Linear(2, 1)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_rows_carry_the_index_of_the_table(method: Any) -> None:
    names = [f"row {i}" for i in range(20)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), index=names)
    fitted = method.fit(table, np.arange(20) % 2)
    assert fitted.predict(table[3:5]).index.tolist() == ["row 3", "row 4"]
    assert fitted.predict(table.to_numpy()).index is None


@pytest.mark.parametrize(
    "model",
    [
        Ridge(1.0),
        BayesianRidge(),
        GaussianProcess(),
        LogisticL2(1.0),
        L2Network(4, weight_decay=1e-3, training=Training(max_epochs=1)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_columns_have_to_be_those_of_the_fit(model: Any) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(20, 2)), columns=["width", "age"])
    model.fit(table, np.arange(20) % 2)
    model.predict(table)
    model.predict(table.to_numpy())  # goes by place
    text = r"\.predict: expected `X` to have the columns of the fit, but got "
    with pytest.raises(mcdrop.RangeError, match=text + r"them in another order\. Pass X\[columns"):
        model.predict(table[["age", "width"]])
    with pytest.raises(mcdrop.RangeError, match=text + r"\['height'\] among them"):
        model.predict(table.rename(columns={"width": "height"}))
    model.fit(table.to_numpy(), np.arange(20) % 2).predict(table)


@pytest.mark.parametrize("alpha", [1.0, "cv"])
def test_one_row_leaves_no_noise_to_estimate(alpha: Any) -> None:
    with pytest.raises(mcdrop.RangeError, match="degrees of freedom .*, but got 1 rows for 2 feat"):
        Ridge(alpha).fit([[1.0, 2.0]], [1.0])
