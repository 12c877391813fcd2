"""Whole comparisons: what is found, what is left undecided, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import RepeatedKFold

import mcdrop
from mcdrop import RegressionPrediction, compare
from mcdrop.baselines import (
    BayesianRidge,
    DeepEnsemble,
    DropoutNetwork,
    L2Network,
    LogisticL2,
    Ridge,
    Training,
)
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = X @ [1.0, -1.0, 0.5] + 0.3 * RNG.normal(size=120)
LABELS = (Y > 0).astype(int)


def zero(X_train: Any, y_train: Any, X_test: Any) -> Any:
    return RegressionPrediction.from_mean_std(np.zeros(len(X_test)), 1.0)


def test_a_clear_winner_is_named() -> None:
    found = compare(X, Y, {"Zero": zero, "Ridge": Ridge()}, task="regression")
    assert found.reference == "Zero"
    assert found.winner("rmse") == found.winner("nll") == "Ridge"
    assert found.outcomes["Ridge"]["crps"] == "better"
    assert found.outcomes["Ridge"]["coverage_90"] == "descriptive"
    assert found.ranks["Ridge"]["rmse"] == 1.0
    assert "Ridge is better than every other method" in found.to_markdown()
    turned = compare(X, Y, {"Zero": zero, "Ridge": Ridge()}, task="regression", reference="Ridge")
    assert turned.methods == ("Ridge", "Zero")
    assert turned.outcomes["Zero"]["rmse"] == "worse"


def test_scores_are_those_of_the_splits() -> None:
    splits = [(np.arange(0, 80), np.arange(80, 120)), (np.arange(40, 120), np.arange(40))]
    found = compare(X, Y, [Ridge()], cv=splits, task="regression")
    errors = [
        mcdrop.metrics.rmse(Ridge().fit(X[a], Y[a]).predict(X[b]).mean, Y[b]) for a, b in splits
    ]
    assert found.metrics["Ridge"]["rmse"].value == pytest.approx(np.mean(errors))
    assert found.metrics["Ridge"]["rmse"].method == "corrected resampled t"
    assert found.test_share == 0.5
    assert found.winner("rmse") is None, "one method alone has beaten nobody"


def test_equal_methods_are_identical_and_no_one_wins() -> None:
    found = compare(X, Y, {"a": Ridge(), "b": Ridge(), "c": zero}, task="regression")
    assert found.outcomes["b"]["nll"] == "identical"
    assert found.leaders("nll") == ("a", "b")
    assert found.winner("nll") is None
    assert "no winner; not beaten: a, b." in found.to_markdown()


def test_no_winner_among_methods_that_play_the_same_part() -> None:
    """Each fits one of two exchangeable features: a winner is noise."""
    rng, n_named = np.random.default_rng(3), 0
    for _ in range(40):
        A = rng.normal(size=(40, 2))
        y = A.sum(axis=1) + rng.normal(size=40)
        methods = {
            f"feature {j}": (
                lambda X, y, X_test, j=j: X_test[:, j] * (X[:, j] @ y) / (X[:, j] @ X[:, j])
            )
            for j in (0, 1)
        }
        n_named += compare(A, y, methods, task="regression").winner("rmse") is not None
    # At a level of 5 %, more than 6 of 40 have a chance of 0.3 %.
    assert n_named <= 6


def test_a_single_split_is_judged_over_its_rows() -> None:
    split = [(np.arange(60), np.arange(60, 120))]
    found = compare(X, Y, {"Zero": zero, "Ridge": Ridge()}, cv=split, task="regression")
    assert found.metrics["Ridge"]["nll"].n == 60
    assert found.metrics["Ridge"]["coverage_90"].method == "clopper-pearson"
    assert found.outcomes["Ridge"]["rmse"] == "better"
    expected = mcdrop.metrics.rmse(Ridge().fit(X[:60], Y[:60]).predict(X[60:]).mean, Y[60:])
    assert found.metrics["Ridge"]["rmse"].value == pytest.approx(expected)
    assert "over the test rows of one split" in found.to_markdown()


def test_classes_are_compared() -> None:
    methods = {"Logistic": LogisticL2(C=1.0), "Prior": DummyClassifier(strategy="prior")}
    found = compare(X, LABELS, methods, task="classification")
    assert found.winner("accuracy") == "Logistic"
    assert found.measures == ("nll", "accuracy", "brier", "ece")
    assert 0 <= found.metrics["Logistic"]["accuracy"].high <= 1
    assert found.outcomes["Prior"]["ece"] == "descriptive"


@pytest.mark.parametrize("kind", [pd.DataFrame, torch.tensor])
def test_tables_of_every_kind_give_the_same(kind: Any) -> None:
    plain = compare(X, Y, [Ridge()], task="regression", cv=2)
    other = compare(kind(X), kind(Y), [Ridge()], task="regression", cv=2)
    a, b = (c.metrics["Ridge"]["nll"].value for c in (plain, other))
    assert a == pytest.approx(b)


def test_repeated_folds_find_more() -> None:
    folds = RepeatedKFold(n_splits=5, n_repeats=4, random_state=0)
    found = compare(X, Y, {"Zero": zero, "Ridge": Ridge()}, cv=folds, task="regression")
    once = compare(X, Y, {"Zero": zero, "Ridge": Ridge()}, cv=5, task="regression")
    assert found.n_splits == 20
    assert found.differences["Ridge"]["rmse"].p_value < once.differences["Ridge"]["rmse"].p_value
    assert "repeated folds show more" in once.to_markdown()
    assert "repeated folds show more" not in found.to_markdown()


def test_dropout_is_as_good_as_an_ensemble_of_k() -> None:
    quick = Training(max_epochs=5)
    options: dict[str, Any] = {"weight_decay": [1e-4], "training": quick}
    methods = {
        "Ensemble": DeepEnsemble((8,), n_members=3, **options),
        "MC dropout": DropoutNetwork((8,), p=0.1, n_samples=20, **options),
        "Ridge": Ridge(),
        "Zero": zero,
    }
    found = compare(X, Y, methods, task="regression", cv=4)
    own = found.ensemble_equivalent("Ensemble")
    assert (own.high, own.largest) == (3, 3)
    # Ridge is the right model of these data, a constant is no model.
    assert found.ensemble_equivalent("Ridge").value == np.inf
    assert (
        found.ensemble_equivalent("Zero", "crps").value
        <= found.ensemble_equivalent("MC dropout", "crps").value
    )
    assert "Comparison(4 methods, 4 splits; RMSE:" in repr(found)
    with pytest.raises(UnsupportedError, match="be a score of Ridge and of a DeepEnsemble"):
        found.ensemble_equivalent("Ridge", "rmse")
    with pytest.raises(RangeError, match="`method` to be one of"):
        found.ensemble_equivalent("Lasso")


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    loud = Training(max_epochs=1, progress=True)
    network = L2Network((4,), weight_decay=[0.0], training=loud)
    compare(X, Y, [BayesianRidge(), network], task="regression", cv=2, progress=True)
    shown = capsys.readouterr().err
    assert "Fits" in shown
    assert "Training" not in shown, "two bars at a time are one too many"
    assert network.training.progress


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            {"task": None},
            RangeError,
            'None, with 120 different numbers in `y`. .*task="regression"',
        ),
        ({"task": None, "y": LABELS}, RangeError, '2 different whole .*task="classification"'),
        ({"task": "ranking"}, RangeError, "compare: expected `task` to be one of"),
        ({"task": "classification"}, RangeError, "`y` to hold class indices"),
        ({"y": Y[:5]}, ShapeError, r"compare: expected `y` to have shape \(120,\)"),
        ({"reference": "Lasso"}, RangeError, '`reference` to be one of "Ridge"'),
        ({"level": 95}, RangeError, r"`level` to lie in \(0, 1\)"),
        ({"random_state": -1}, RangeError, "`random_state` to be an integer from 0 to 2"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], error: type[Exception], text: str) -> None:
    options: dict[str, Any] = {"X": X, "y": Y, "methods": [Ridge()], "task": "regression"} | change
    with pytest.raises(error, match=text):
        compare(options.pop("X"), options.pop("y"), options.pop("methods"), **options)


def test_targets_of_other_rows_are_refused() -> None:
    table = pd.DataFrame(np.eye(30, 2), index=[f"row {i}" for i in range(30)])
    y = pd.Series(np.arange(30.0), index=table.index)
    text = "compare: expected `y` to have the index of `X`, but got the same labels in another"
    with pytest.raises(RangeError, match=text):
        compare(table, y[::-1], {"Ridge": Ridge()}, task="regression", cv=2)
