"""Penalized logistic regression against a general optimizer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize

from mcdrop.baselines import LogisticL2
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

Floats = npt.NDArray[np.float64]


def data(n: int = 90, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) * [1.0, 20.0]
    return X, np.digitize(X[:, 0] + 0.5 * rng.normal(size=n), [-0.5, 0.5])


def test_coefficients_minimize_the_penalized_log_loss() -> None:
    # Two classes, one standardized feature: C * sum(log loss) + w^2 / 2, by a general optimizer.
    X, labels = data()
    y, C = (labels > 0).astype(int), 0.3
    z = (X[:, 0] - X[:, 0].mean()) / X[:, 0].std()

    def objective(parameters: Floats) -> float:
        w, b = parameters
        margin = (2 * y - 1) * (w * z + b)
        return C * np.logaddexp(0, -margin).sum() + 0.5 * w**2

    w, b = minimize(objective, [0.0, 0.0], tol=1e-12).x
    probs = LogisticL2(C=C).fit(X[:, :1], y).predict(X[:, :1]).probs[:, 1]
    np.testing.assert_allclose(probs, 1 / (1 + np.exp(-(w * z + b))), atol=1e-4)


def test_nothing_is_epistemic() -> None:
    X, y = data()
    prediction = LogisticL2(C=1.0).fit(X, y).predict(X)
    torch.testing.assert_close(prediction.expected_entropy, prediction.predictive_entropy)
    assert prediction.mutual_information.abs().max() == 0
    assert prediction.variation_ratio.abs().max() == 0
    assert prediction.probs_std.abs().max() == 0
    torch.testing.assert_close(prediction.probs.sum(dim=1), torch.ones(90, dtype=torch.float64))


def test_rescaling_a_feature_changes_nothing() -> None:
    X, y = data()
    torch.testing.assert_close(
        LogisticL2(1.0).fit(X, y).predict(X).probs,
        LogisticL2(1.0).fit(X * [1e3, 1e-3], y).predict(X * [1e3, 1e-3]).probs,
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.slow
def test_cross_validation_shrinks_noise_more_than_signal() -> None:
    rng = np.random.default_rng(3)
    X, y = data()
    assert LogisticL2().fit(X, rng.permutation(y)).chosen_C < LogisticL2().fit(X, y).chosen_C


@pytest.mark.slow
def test_two_fits_choose_the_same_penalty_whatever_the_global_seed() -> None:
    X, y = data()
    np.random.seed(0)
    first = LogisticL2().fit(X, y).chosen_C
    np.random.seed(1)
    assert LogisticL2().fit(X, y).chosen_C == first


def test_errors_say_what_to_do() -> None:
    X, y = data()
    with pytest.raises(RangeError, match=r"class indices 0, 1, .* values \[0.0, 2.0\]"):
        LogisticL2(1.0).fit(X[y != 1], y[y != 1])
    with pytest.raises(RangeError, match=r"every class at least twice .* 1 row of class 3"):
        LogisticL2().fit(X, np.r_[y[:-1], 3])
    with pytest.raises(ShapeError, match=r"LogisticL2\.fit: expected `y` to have shape \(90,\)"):
        LogisticL2().fit(X, y[:3])
    with pytest.raises(RangeError, match='expected `C` to be "cv" or a number > 0, but got 0'):
        LogisticL2(C=0)
    with pytest.raises(UnsupportedError, match=r"LogisticL2\.predict: .* Call fit"):
        LogisticL2().predict(X)
