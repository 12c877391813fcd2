"""The penalty of input dropout, against all masks of a linear model."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mcdrop.baselines import equivalent_logistic_penalty, equivalent_ridge_penalty
from mcdrop.errors import RangeError, ShapeError

Floats = npt.NDArray[np.float64]


def expected_dropout_loss(X: Floats, y: Floats, w: Floats, p: float) -> float:
    """Slow oracle: the squared loss averaged over all 2^D masks of each row."""
    total = 0.0
    for x, target in zip(X, y, strict=True):
        for mask in itertools.product([0, 1], repeat=len(x)):
            kept = np.array(mask)
            weight = np.prod(np.where(kept, 1 - p, p))
            total += weight * (target - w @ (x * kept / (1 - p))) ** 2
    return total


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_input_dropout_in_expectation_is_ridge_with_this_penalty(p: float) -> None:
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(5, 4)), rng.normal(size=5), rng.normal(size=4)
    penalty = equivalent_ridge_penalty(X, p)
    ridge_loss = np.sum((y - X @ w) ** 2) + (penalty.numpy() * w**2).sum()
    assert expected_dropout_loss(X, y, w, p) == pytest.approx(ridge_loss, rel=1e-12)


def test_standardized_features_give_plain_ridge() -> None:
    X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    X = (X - X.mean(0)) / X.std(0, correction=0)
    torch.testing.assert_close(
        equivalent_ridge_penalty(X, 0.2), torch.full((3,), 50 * 0.25, dtype=torch.float64)
    )


@pytest.mark.parametrize("p", [1.0, -0.1, float("nan")])
def test_rate_outside_the_unit_interval_is_refused(p: float) -> None:
    with pytest.raises(RangeError, match=r"expected `p` to lie in \[0, 1\), but got"):
        equivalent_ridge_penalty([[1.0]], p)


def added_log_loss(X: Floats, w: Floats, b: float, p: float) -> float:
    """Slow oracle: what dropout adds to the log loss summed over rows, over all masks."""
    total = 0.0
    for x in X:
        for mask in itertools.product([0, 1], repeat=len(x)):
            kept = np.array(mask)
            weight = np.prod(np.where(kept, 1 - p, p))
            total += weight * np.logaddexp(0, w @ (x * kept / (1 - p)) + b)
        total -= np.logaddexp(0, w @ x + b)
    return total


def test_penalty_of_logistic_regression_is_the_second_order_of_the_added_loss() -> None:
    rng = np.random.default_rng(0)
    X, w, p = rng.normal(size=(6, 4)), rng.normal(size=4), 0.3

    def error(scale: float) -> float:
        penalty = equivalent_logistic_penalty(X, scale * w, p, intercept=0.7).numpy()
        return abs((penalty * (scale * w) ** 2).sum() - added_log_loss(X, scale * w, 0.7, p))

    # The next term is of third order: a tenth of the coefficients, a thousandth of the error.
    assert error(0.01) == pytest.approx(error(0.1) / 1000, rel=0.5)
    assert error(0.01) < 0.02 * added_log_loss(X, 0.01 * w, 0.7, p)


def test_confident_rows_are_not_penalized() -> None:
    X = np.array([[1.0, 0.0], [0.0, 1.0]])
    penalty = equivalent_logistic_penalty(X, [20.0, 0.0], 0.5)
    # q (1 - q) is 1/4 at 0, and e^-20 at 20.
    np.testing.assert_allclose(penalty, [0.5 * np.exp(-20), 0.125], rtol=1e-6)


def test_mistakes_of_the_logistic_penalty_are_named() -> None:
    with pytest.raises(ShapeError, match=r"`coefficients` to have shape \(2,\), one per feature"):
        equivalent_logistic_penalty([[1.0, 2.0]], [1.0], 0.5)
    with pytest.raises(RangeError, match=r"equivalent_logistic_penalty: expected `p` to lie in"):
        equivalent_logistic_penalty([[1.0]], [1.0], 1.0)
