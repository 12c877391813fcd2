"""Ridge and its noise against the hat matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from mcdrop.baselines import Ridge
from mcdrop.baselines.ridge import effective_parameters
from mcdrop.errors import NonFiniteError, RangeError, ShapeError, UnsupportedError

Floats = npt.NDArray[np.float64]


def linear_data(
    n: int = 80, d: int = 3, noise: float = 0.5, seed: int = 0
) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.array([1.0, 5.0, 0.1])[:d] + 2.0
    return X, X @ np.arange(1.0, d + 1) + noise * rng.normal(size=n)


def hat_matrix(X: Floats, alpha: float) -> Floats:
    """Slow oracle: the matrix that maps y to the fitted values, intercept included."""
    Z = (X - X.mean(0)) / X.std(0)
    n = len(X)
    centring = np.ones((n, n)) / n
    return centring + Z @ np.linalg.solve(Z.T @ Z + alpha * np.eye(Z.shape[1]), Z.T)


def test_without_penalty_the_mean_is_least_squares() -> None:
    X, y = linear_data()
    design = np.c_[np.ones(len(X)), X]
    by_hand = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(Ridge(alpha=0.0).fit(X, y).predict(X).mean, by_hand, rtol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 3.0, 100.0])
def test_mean_and_noise_follow_from_the_hat_matrix(alpha: float) -> None:
    X, y = linear_data()
    H = hat_matrix(X, alpha)
    prediction = Ridge(alpha=alpha).fit(X, y).predict(X)
    np.testing.assert_allclose(prediction.mean, H @ y, rtol=1e-9)
    variance = np.sum((y - H @ y) ** 2) / (len(y) - np.trace(H))
    np.testing.assert_allclose(prediction.aleatoric_variance, np.full(len(y), variance), rtol=1e-9)


def test_effective_parameters_are_the_trace_of_the_hat_matrix() -> None:
    X, _ = linear_data()
    Z = (X - X.mean(0)) / X.std(0)
    assert effective_parameters(Z, 7.0) == pytest.approx(np.trace(hat_matrix(X, 7.0)), rel=1e-10)


def test_residual_variance_is_unbiased_when_coefficients_come_from_the_prior() -> None:
    # b ~ N(0, s^2 / alpha): then E RSS = s^2 (n - trace(H)) exactly, for any alpha.
    rng = np.random.default_rng(1)
    n, alpha, noise = 12, 4.0, 1.5
    X = rng.normal(size=(n, 3))
    Z = (X - X.mean(0)) / X.std(0)
    estimates = []
    for _ in range(600):
        b = rng.normal(size=3) * noise / np.sqrt(alpha)
        y = Z @ b + noise * rng.normal(size=n)
        estimates.append(Ridge(alpha).fit(X, y).predict(X[:1]).aleatoric_variance.item())
    standard_error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - noise**2) < 4 * standard_error


def test_everything_is_aleatoric_and_normal() -> None:
    X, y = linear_data()
    prediction = Ridge().fit(X, y).predict(X[:5])
    assert prediction.family == "normal"
    assert prediction.n_samples == 0
    assert prediction.epistemic_variance.tolist() == [0.0] * 5
    assert prediction.mcse.tolist() == [0.0] * 5
    torch.testing.assert_close(prediction.variance, prediction.aleatoric_variance)


def test_cross_validation_shrinks_noise_and_keeps_signal() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 10))
    assert Ridge().fit(X, rng.normal(size=60)).chosen_alpha > 10
    assert Ridge().fit(X, X @ np.ones(10) + 0.01 * rng.normal(size=60)).chosen_alpha < 0.1


def test_rescaling_a_feature_changes_nothing() -> None:
    X, y = linear_data()
    scaled = X * np.array([1000.0, 1.0, 1e-3]) + 5.0
    torch.testing.assert_close(
        Ridge(2.0).fit(X, y).predict(X).mean, Ridge(2.0).fit(scaled, y).predict(scaled).mean
    )


@pytest.mark.parametrize("convert", [torch.as_tensor, pd.DataFrame, np.ndarray.tolist])
def test_tensor_frame_and_list_agree_with_numpy(convert: Callable[[Any], Any]) -> None:
    X, y = linear_data()
    expected = Ridge(2.0).fit(X, y).predict(X)
    torch.testing.assert_close(Ridge(2.0).fit(convert(X), y).predict(convert(X)).std, expected.std)


@pytest.mark.parametrize("shape", [(80,), (80, 1), (80, 2)])
def test_prediction_has_the_shape_of_the_targets(shape: tuple[int, ...]) -> None:
    X, y = linear_data()
    target = np.broadcast_to(y.reshape(80, *([1] * (len(shape) - 1))), shape)
    prediction = Ridge().fit(X, target).predict(X)
    assert prediction.mean.shape == shape
    assert prediction.std.shape == shape


def test_several_targets_equal_one_fit_each() -> None:
    X, y = linear_data()
    both = Ridge(1.0).fit(X, np.c_[y, -3 * y]).predict(X)
    one = Ridge(1.0).fit(X, -3 * y).predict(X)
    torch.testing.assert_close(both.mean[:, 1], one.mean)
    torch.testing.assert_close(both.std[:, 1], one.std)


def test_a_constant_feature_does_no_harm() -> None:
    X, y = linear_data()
    with_constant = np.c_[X, np.full(len(X), 3.0)]
    torch.testing.assert_close(
        Ridge(0.0).fit(with_constant, y).predict(with_constant).std,
        Ridge(0.0).fit(X, y).predict(X).std,
    )


def test_errors_say_what_to_do() -> None:
    X, y = linear_data()
    with pytest.raises(ShapeError, match=r"Ridge\.fit: expected `y` to have shape \(80,\) or"):
        Ridge().fit(X, y[:5])
    with pytest.raises(ShapeError, match=r"expected `X` to have shape \(N, 3\).*got \(80, 2\)"):
        Ridge().fit(X, y).predict(X[:, :2])
    with pytest.raises(UnsupportedError, match=r"Ridge\.predict: .* Call fit\(X, y\) first"):
        Ridge().predict(X)
    with pytest.raises(
        RangeError, match='expected `alpha` to be "cv" or a number >= 0, but got -1'
    ):
        Ridge(alpha=-1)
    with pytest.raises(RangeError, match="3 rows for 3 features"):
        Ridge(alpha=0.0).fit(X[:3], y[:3])
    with pytest.raises(UnsupportedError, match="expected `X` to hold numbers, but got dtype <U1"):
        Ridge().fit([["a"], ["b"]], [0.0, 1.0])
    X[4, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"`X` to hold finite numbers, .* in row 4\. Drop"):
        Ridge().fit(X, y)
