"""Methods of every kind, fitted on copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mcdrop import ClassificationPrediction, RegressionPrediction
from mcdrop.baselines import Ridge
from mcdrop.comparison.methods import checked_methods, default_methods, fitted_prediction
from mcdrop.errors import NonFiniteError, RangeError, UnsupportedError
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor

X = np.random.default_rng(0).normal(size=(30, 2))
Y = X[:, 0] + 1
LABELS = (X[:, 0] > 0).astype(int)


def test_default_methods_by_task_and_size() -> None:
    assert list(default_methods("regression", 1000, 0)) == [
        "MC dropout", "L2 network", "Deep ensemble", "Ridge", "Bayesian ridge", "Gaussian process"
    ]  # fmt: skip
    assert "Gaussian process" not in default_methods("regression", 1001, 0)
    assert "Logistic L2" in default_methods("classification", 50, 0)


def test_scikit_learns_models_join_by_their_arrays() -> None:
    p, seconds = fitted_prediction("a", LinearRegression(), "regression", (X, Y), X[:4])
    assert isinstance(p, RegressionPrediction)
    np.testing.assert_allclose(p.mean, Y[:4])
    assert seconds > 0
    model = LogisticRegression()
    q, _ = fitted_prediction("a", model, "classification", (X, LABELS), X[:4])
    assert isinstance(q, ClassificationPrediction)
    np.testing.assert_allclose(q.probs, LogisticRegression().fit(X, LABELS).predict_proba(X[:4]))
    assert not hasattr(model, "coef_"), "the caller's object is not fitted"


def test_functions_join_with_arrays_or_predictions() -> None:
    p, _ = fitted_prediction("a", lambda X, y, X_test: X_test[:, 0], "regression", (X, Y), X[:4])
    np.testing.assert_array_equal(p.mean, X[:4, 0])  # type: ignore[attr-defined]

    def normal(X_train: Any, y_train: Any, X_test: Any) -> RegressionPrediction:
        return RegressionPrediction.from_mean_std(np.zeros(len(X_test)), 1.0)

    q, _ = fitted_prediction("a", normal, "regression", (X, Y), X[:4])
    assert isinstance(q, RegressionPrediction)
    assert q.std.tolist() == [1.0] * 4


def test_lists_are_named_by_class() -> None:
    assert list(checked_methods([Ridge(), LinearRegression()])) == ["Ridge", "LinearRegression"]
    with pytest.raises(RangeError, match="`methods` to have names that differ"):
        checked_methods([Ridge(), Ridge(alpha=1.0)])


@pytest.mark.parametrize("wrong", [{}, [], "Ridge", 3])
def test_no_methods_are_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedError, match="`methods` to be a dict of methods by name"):
        checked_methods(wrong)


def test_mistakes_are_named() -> None:
    with pytest.raises(UnsupportedError, match=r'`methods\["R"\]` to have fit and .* class Ridge'):
        checked_methods({"R": Ridge})
    with pytest.raises(UnsupportedError, match=r'`methods\["net"\]` to have fit'):
        checked_methods({"net": np.zeros(3)})
    probs = ClassificationPrediction.from_probs(np.full(4, 0.5))
    with pytest.raises(UnsupportedError, match="return a RegressionPrediction or an array for the"):
        fitted_prediction("a", lambda *_: probs, "regression", (X, Y), X[:4])
    with pytest.raises(UnsupportedError, match="RegressionPrediction of 3 rows"):
        fitted_prediction("a", lambda *_: torch.zeros(3), "regression", (X, Y), X[:4])
    with pytest.raises(NonFiniteError, match=r'compare: expected `methods\["a"\]` to hold finite'):
        fitted_prediction("a", lambda *_: [np.nan] * 4, "regression", (X, Y), X[:4])


def test_estimators_are_asked_for_their_distribution() -> None:
    regressor = MCDropoutRegressor((4,), max_epochs=1, n_members=2, random_state=0)
    p, _ = fitted_prediction("a", regressor, "regression", (X, Y), X[:4])
    assert isinstance(p, RegressionPrediction)
    assert bool((p.epistemic_variance > 0).all())
    assert bool((p.aleatoric_variance > 0).all())
    classifier = MCDropoutClassifier((4,), max_epochs=1, n_members=2, random_state=0)
    q, _ = fitted_prediction("a", classifier, "classification", (X, LABELS), X[:4])
    assert isinstance(q, ClassificationPrediction)
    assert bool((q.mutual_information > 0).all())


def test_a_bare_network_is_no_method() -> None:
    with pytest.raises(UnsupportedError, match=r'`methods\["net"\]`.* Linear\. Pass Deterministic'):
        checked_methods({"net": torch.nn.Linear(2, 1)})


def test_a_pipeline_is_asked_for_the_distribution_of_its_last_step() -> None:
    regressor = MCDropoutRegressor((4,), max_epochs=1, n_members=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), regressor)
    p, _ = fitted_prediction("a", pipeline, "regression", (X, Y), X[:4])
    assert isinstance(p, RegressionPrediction)
    assert bool((p.aleatoric_variance > 0).all())
    np.testing.assert_allclose(p.mean[:, 0], pipeline.fit(X, Y).predict(X[:4]))
