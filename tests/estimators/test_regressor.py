"""The regressor's distribution: moments add up, intervals cover, draws are functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.estimators import MCDropoutRegressor
from mcdrop.estimators.regressor import _likeliest

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(300, 2))
NOISE = 0.3
Y = np.sin(2 * X[:, 0]) + X[:, 1] + NOISE * RNG.normal(size=300)


@pytest.fixture(scope="module")
def fitted() -> MCDropoutRegressor:
    return MCDropoutRegressor((32,), n_members=3, max_epochs=60, random_state=0).fit(X, Y)


def test_the_noise_is_that_of_the_data(fitted: MCDropoutRegressor) -> None:
    # The standard error of a std over 300 rows is 4 %; errors of the fit add to it.
    assert 0.85 * NOISE < fitted.noise_std_[0] < 1.35 * NOISE


def test_intervals_cover_rows_never_seen(fitted: MCDropoutRegressor) -> None:
    rng = np.random.default_rng(1)
    new = rng.uniform(-2, 2, size=(2000, 2))
    y = np.sin(2 * new[:, 0]) + new[:, 1] + NOISE * rng.normal(size=2000)
    lower, upper = fitted.predict_interval(new, level=0.9)
    assert 0.85 < np.mean((lower <= y) & (y <= upper)) < 0.97
    assert fitted.score(new, y) > 0.85


def test_moments_are_those_of_the_mixture_over_members_and_passes(
    fitted: MCDropoutRegressor,
) -> None:
    prediction = fitted.predict_with_uncertainty(X[:5])
    assert prediction.samples is not None
    n = prediction.n_samples
    torch.testing.assert_close(prediction.mean, prediction.samples.mean(dim=0))
    by_member = prediction.samples.reshape(3, n // 3, 5, 1)
    # Law of total variance; stratified passes make the variance within unbiased in its own way.
    within = by_member.var(dim=1).mean(dim=0)
    between = by_member.mean(dim=1).var(dim=0, correction=0)
    torch.testing.assert_close(prediction.epistemic_variance, within + between, rtol=0.1, atol=0)
    mean, std = fitted.predict(X[:5], return_std=True)
    np.testing.assert_allclose(std**2, prediction.variance[:, 0])
    np.testing.assert_allclose(mean, fitted.predict(X[:5]))


def test_draws_have_the_moments_of_the_prediction(fitted: MCDropoutRegressor) -> None:
    draws = fitted.sample_y(X[:4], n_samples=4000, random_state=0)
    mean, std = fitted.predict(X[:4], return_std=True)
    assert draws.shape == (4, 4000)
    np.testing.assert_allclose(draws.mean(axis=1), mean, atol=5 * std.max() / 4000**0.5)
    np.testing.assert_allclose(draws.std(axis=1), std, rtol=0.08)
    np.testing.assert_array_equal(draws, fitted.sample_y(X[:4], 4000, random_state=0))


def test_the_spread_grows_away_from_the_data(fitted: MCDropoutRegressor) -> None:
    inside = fitted.predict(np.zeros((1, 2)), return_std=True)[1]
    outside = fitted.predict(np.full((1, 2), 8.0), return_std=True)[1]
    assert outside[0] > 2 * inside[0]


def test_the_heteroscedastic_option_tells_noisy_rows_from_others() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, size=(600, 1))
    y = x[:, 0] + np.where(x[:, 0] > 0, 1.0, 0.1) * rng.normal(size=600)
    model = MCDropoutRegressor(
        (32,), n_members=2, heteroscedastic=True, max_epochs=60, random_state=0
    ).fit(x, y)
    assert model.noise_std_ is None
    prediction = model.predict_with_uncertainty([[-0.5], [0.5]])
    quiet, loud = prediction.aleatoric_std[:, 0].tolist()
    assert 0.05 < quiet < 0.25
    assert 0.7 < loud < 1.4
    assert prediction.sample_variances is not None
    torch.testing.assert_close(
        prediction.sample_variances.mean(dim=0), prediction.aleatoric_variance
    )
    assert model.sample_y([[0.5]], 3).shape == (1, 3)


def test_several_targets_keep_their_units_and_shapes() -> None:
    both = np.column_stack([Y, 1000 * Y])
    model = MCDropoutRegressor((16,), n_members=2, max_epochs=20, random_state=0).fit(X, both)
    mean, std = model.predict(X[:7], return_std=True)
    assert mean.shape == std.shape == (7, 2)
    assert model.noise_std_.shape == (2,)
    assert model.noise_std_[1] > 100 * model.noise_std_[0]
    assert model.sample_y(X[:7], 3).shape == (7, 2, 3)
    lower, upper = model.predict_interval(X[:7], 0.5)
    assert bool((lower < upper).all())


def test_units_of_features_and_targets_do_not_matter() -> None:
    options: dict[str, Any] = {"n_members": 2, "max_epochs": 5, "random_state": 0}
    plain = MCDropoutRegressor((16,), **options).fit(X, Y)
    # Powers of two, so that scaling is exact.
    scaled = MCDropoutRegressor((16,), **options).fit(1024 * X, 4096 * Y)
    mean, std = plain.predict(X, return_std=True)
    mean_2, std_2 = scaled.predict(1024 * X, return_std=True)
    np.testing.assert_allclose(mean_2, 4096 * mean, rtol=1e-3, atol=1)
    np.testing.assert_allclose(std_2, 4096 * std, rtol=1e-3)


def test_how_far_columns_are_from_zero_does_not_matter() -> None:
    options: dict[str, Any] = {"n_members": 2, "max_epochs": 5, "random_state": 0}
    plain = MCDropoutRegressor((16,), **options).fit(X, Y).partial_fit(X, Y)
    x, y = X + 2.0**27, Y + 2.0**27  # 16 is the distance of numbers in float32 there
    moved = MCDropoutRegressor((16,), **options).fit(x, y).partial_fit(x, y)
    np.testing.assert_allclose(moved.predict(x) - 2.0**27, plain.predict(X), atol=1e-3)


def test_likeliest_noise_solves_the_likelihood_where_it_has_a_closed_form() -> None:
    squares = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    weight = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    # With one variance v for all rows, v + s^2 is the weighted mean square: (1 + 1 + 3) / 4.
    for v in (0.0, 0.25):
        found = _likeliest(squares, torch.full((3,), v, dtype=torch.float64), weight)
        assert found == pytest.approx((1.25 - v) ** 0.5, rel=1e-4)


def test_a_trained_module_predicts_as_wrapped_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    model = MCDropoutRegressor.from_module(net, noise_std=0.5, n_samples=32, random_state=3)
    by_hand = mcdrop.wrap(net, masks="shared").predict_with_uncertainty(
        torch.from_numpy(X[:6]).float(),
        noise_std=0.5,
        n_samples=32,
        seed=model.seed_,
        keep_samples=True,
    )
    mean, std = model.predict(X[:6], return_std=True)
    np.testing.assert_allclose(mean, by_hand.mean[:, 0], rtol=1e-6)
    np.testing.assert_allclose(std, by_hand.std[:, 0], rtol=1e-6)
    assert model.score(X, Y) < 1
    with pytest.raises(ValueError, match="2 features"):
        model.predict(X[:, :1])
    flat = MCDropoutRegressor.from_module(nn.Sequential(net, nn.Flatten(0)))
    assert flat.predict(X[:6]).shape == (6,)


def test_means_and_log_variances_may_come_from_a_trained_module() -> None:
    net = nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 2))
    model = MCDropoutRegressor.from_module(net, heteroscedastic=True, random_state=0)
    prediction = model.predict_with_uncertainty(X[:3])
    assert prediction.mean.shape == (3, 1)
    assert bool((prediction.aleatoric_variance > 0).all())


@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_a_parameter_set_after_fit_waits_for_the_next_fit(heteroscedastic: bool) -> None:
    x, y = np.linspace(-1, 1, 40).reshape(-1, 1), np.linspace(0, 1, 40)
    model = MCDropoutRegressor(
        (8,), n_members=2, max_epochs=3, heteroscedastic=heteroscedastic, random_state=0
    ).fit(x, y)
    expected = model.predict(x, return_std=True)
    model.set_params(heteroscedastic=not heteroscedastic)
    assert np.array_equal(model.predict(x, return_std=True), expected)
    assert model.partial_fit(x, y).predict(x).shape == (40,)


def test_partial_fit_keeps_to_the_targets_of_its_first_call() -> None:
    x, y = np.linspace(-1, 1, 40).reshape(-1, 1), np.linspace(0, 1, 40)
    model = MCDropoutRegressor((8,), n_members=2, random_state=0).partial_fit(x, y)
    text = (
        r"partial_fit: expected `y` to have the 1 target\(s\) of the first call, but got 2 target"
    )
    with pytest.raises(mcdrop.ShapeError, match=text):
        model.partial_fit(x, np.column_stack([y, y]))
