"""The Gaussian process against scikit-learn's, and against its formula."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.preprocessing import StandardScaler

from mcdrop.baselines import GaussianProcess
from mcdrop.errors import RangeError, ShapeError, UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)) * [1.0, 50.0] + [3.0, 0.0]
Y = 100 + 20 * np.sin(X[:, 0]) + RNG.normal(size=40)
NEW = RNG.normal(size=(7, 2)) * [1.0, 50.0] + [3.0, 0.0]


def test_it_is_scikit_learns_with_its_own_standardization() -> None:
    p = GaussianProcess().fit(X, Y).predict(NEW)
    scaler = StandardScaler().fit(X)
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF([2**0.5, 2**0.5], (1e-2, 1e4))
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-6, 1e2)), normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.fit(scaler.transform(X), Y)
    mean, std = process.predict(scaler.transform(NEW), return_std=True)
    np.testing.assert_allclose(p.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(p.std, std, rtol=1e-4)


def test_mean_and_variances_are_the_textbook_formula() -> None:
    model = GaussianProcess().fit(X, Y)
    assert model._models is not None
    kernel = model._models[0][-1].kernel_
    scaler = StandardScaler().fit(X)
    A, B = scaler.transform(X), scaler.transform(NEW)
    signal, noise = kernel.k1, kernel.k2.noise_level
    # Rasmussen & Williams (2006), eqs. 2.23 and 2.24.
    K = signal(A) + noise * np.eye(len(A))
    cross = signal(A, B)
    mean = cross.T @ np.linalg.solve(K, (Y - Y.mean()) / Y.std())
    variance = np.diag(signal(B)) - np.einsum("ij,ij->j", cross, np.linalg.solve(K, cross))
    p = model.predict(NEW)
    np.testing.assert_allclose(p.mean, mean * Y.std() + Y.mean(), rtol=1e-8)
    np.testing.assert_allclose(p.epistemic_std, np.sqrt(variance) * Y.std(), rtol=1e-5)
    np.testing.assert_allclose(p.aleatoric_variance, noise * Y.var(), rtol=1e-6)


def test_several_targets_are_fitted_one_by_one() -> None:
    both = GaussianProcess().fit(X, np.stack([Y, -3 * Y], axis=1)).predict(NEW)
    one = GaussianProcess().fit(X, Y).predict(NEW)
    torch.testing.assert_close(both.mean[:, 0], one.mean)
    torch.testing.assert_close(both.std[:, 1], 3 * one.std, rtol=1e-4, atol=0.0)


def test_a_constant_target_is_predicted() -> None:
    p = GaussianProcess().fit(X, np.full(40, 5.0)).predict(NEW)
    np.testing.assert_allclose(p.mean, 5.0, atol=1e-6)


def test_mistakes_are_named() -> None:
    with pytest.raises(RangeError, match="hold at most max_rows = 30 rows, as the cost is cubic"):
        GaussianProcess(max_rows=30).fit(X, Y)
    with pytest.raises(UnsupportedError, match=r"Call fit\(X, y\) first"):
        GaussianProcess().predict(X)
    with pytest.raises(ShapeError, match=r"`X` to have shape \(N, 2\)"):
        GaussianProcess().fit(X, Y).predict(X[:, :1])
    with pytest.raises(RangeError, match="`n_restarts` to be an integer of at least 0"):
        GaussianProcess(n_restarts=-1)
