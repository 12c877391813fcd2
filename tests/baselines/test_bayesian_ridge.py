"""Bayesian ridge against scikit-learn's posterior."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import BayesianRidge as SklearnBayesianRidge

from mcdrop.baselines import BayesianRidge
from mcdrop.errors import ShapeError, UnsupportedError

Floats = npt.NDArray[np.float64]


def data(n: int = 60, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return X, X @ [2.0, -1.0] + 0.3 * rng.normal(size=n)


def test_split_is_the_posterior_covariance_plus_the_noise() -> None:
    X, y = data()
    Z = (X - X.mean(0)) / X.std(0)
    reference = SklearnBayesianRidge().fit(Z, y)
    prediction = BayesianRidge().fit(X, y).predict(X)
    epistemic = np.einsum("ni,ij,nj->n", Z, reference.sigma_, Z)
    np.testing.assert_allclose(prediction.epistemic_variance, epistemic, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(prediction.aleatoric_variance, 1 / reference.alpha_, rtol=1e-9)
    np.testing.assert_allclose(prediction.std, reference.predict(Z, return_std=True)[1], rtol=1e-9)


def test_epistemic_variance_grows_with_the_squared_distance_from_the_data() -> None:
    X, y = data()
    center = X.mean(0)
    rows = center + np.array([[1.0, 0.0], [10.0, 0.0]])
    near, far = BayesianRidge().fit(X, y).predict(rows).epistemic_variance
    assert (far / near).item() == pytest.approx(100, rel=1e-6)


def test_more_rows_leave_less_epistemic_variance() -> None:
    few, many = (
        BayesianRidge().fit(*data(n)).predict([[1.0, 1.0]]).epistemic_variance.item()
        for n in (30, 3000)
    )
    assert many < few / 20


def test_several_targets_equal_one_fit_each() -> None:
    X, y = data()
    both = BayesianRidge().fit(X, np.c_[y, y**2]).predict(X)
    one = BayesianRidge().fit(X, y**2).predict(X)
    assert both.mean.shape == (60, 2)
    torch.testing.assert_close(both.mean[:, 1], one.mean)
    torch.testing.assert_close(both.epistemic_variance[:, 1], one.epistemic_variance)


def test_errors_say_what_to_do() -> None:
    X, y = data()
    with pytest.raises(UnsupportedError, match=r"BayesianRidge\.predict: .* Call fit"):
        BayesianRidge().predict(X)
    with pytest.raises(
        ShapeError, match=r"BayesianRidge\.fit: expected `X` to have shape \(N, D\)"
    ):
        BayesianRidge().fit(y, y)
