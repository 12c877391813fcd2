"""Conformal intervals under covariate weights: thresholds by hand, the guarantee by simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from mcdrop.recalibration import (
    ConformalRegressor,
    WeightedConformalPrediction,
    WeightedConformalRegressor,
)
from mcdrop.recalibration._interval_scores import METHODS, IntervalMethod
from tests.recalibration.cases import averaged, normal


def forecast(rng: np.random.Generator, x: np.ndarray) -> tuple[mcdrop.RegressionPrediction, object]:
    """A constant forecast of a mean and a noise that grow with x."""
    return normal(np.full(len(x), 0.5), 0.3 + 0 * x), x + x * rng.normal(size=len(x))


def test_thresholds_by_hand() -> None:
    # Scores 1, 2, 3 of weights 1, 2, 3; a new row of weight w asks for level (6 + w).
    p = normal(np.zeros(3), 1.0)
    conformal = WeightedConformalRegressor(level=0.5).fit(p, [3, -1, 2], weights=[3, 1, 2])
    new = normal(np.zeros(4), 1.0)
    upper = conformal(new, weights=[0, 1, 6, 7]).interval(0.5)[1]
    # 3.0 of 1, 3, 6 is reached at score 2; 3.5 and 6.0 at 3; 6.5 not at all.
    assert upper.tolist() == [2, 3, 3, np.inf]
    assert conformal(new[:1], weights=[3.0]).interval(0.1)[0].item() == -1  # 0.9 of 1


@given(st.integers(0, 10**6), st.sampled_from(METHODS), st.sampled_from([0.1, 0.7, 0.9, 0.95]))
def test_equal_weights_are_plain_conformal(seed: int, method: IntervalMethod, level: float) -> None:
    rng = np.random.default_rng(seed)
    p, y = forecast(rng, rng.uniform(size=40))
    plain = ConformalRegressor(method, level).fit(p, y)(p).interval(level)
    equal = WeightedConformalRegressor(method, level).fit(p, y, weights=np.full(40, 0.3))
    found = equal(p, weights=np.full(40, 0.3)).interval(level)
    for end, other in zip(plain, found, strict=True):
        assert torch.equal(end, other)


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_a_common_factor_of_the_weights_cancels(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=30)
    p, y = forecast(rng, x)
    one = WeightedConformalRegressor(level=0.8).fit(p, y, weights=x)(p, weights=x)
    two = WeightedConformalRegressor(level=0.8).fit(p, y, weights=x * factor)
    assert torch.equal(one.upper, two(p, weights=x * factor).upper)


def test_coverage_holds_under_the_shift_and_not_without_the_weights() -> None:
    # Calibration x uniform, new x of density 2 x, where the noise is larger: w(x) = 2 x.
    rng = np.random.default_rng(0)
    inside, unweighted = np.zeros(400), np.zeros(400)
    for i in range(len(inside)):
        x, shifted = rng.uniform(size=60), np.sqrt(rng.uniform(size=40))
        (p, y), (new, target) = forecast(rng, x), forecast(rng, shifted)
        c = WeightedConformalRegressor(level=0.8).fit(p, y, weights=x)(new, weights=shifted)
        plain = ConformalRegressor(level=0.8).fit(p, y)(new)
        for found, result in ((c, inside), (plain, unweighted)):
            lower, upper = (end.numpy() for end in found.interval(0.8))
            result[i] = np.mean((lower <= target) & (target <= upper))
    error = inside.std() / np.sqrt(len(inside))
    assert 0.8 - 3 * error < inside.mean() < 0.8 + 1 / 20
    assert unweighted.mean() < 0.75


def test_each_output_has_its_own_scores() -> None:
    rng = np.random.default_rng(1)
    y, w = rng.normal(size=(25, 2)) * [1, 10], rng.uniform(size=25)
    p = normal(np.zeros((25, 2)), 1.0)
    both = WeightedConformalRegressor(level=0.7).fit(p, y, weights=w)(p, weights=w)
    for d in range(2):
        alone = normal(np.zeros(25), 1.0)
        one = WeightedConformalRegressor(level=0.7).fit(alone, y[:, d], weights=w)
        assert torch.equal(both.upper[:, d], one(alone, weights=w).upper)


def test_rows_shapes_and_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(size=30)
    p, y = forecast(rng, x)
    c = WeightedConformalRegressor("normalized", 0.8).fit(p, y, weights=x)(p, weights=x)
    assert torch.equal(c[[3, 8]].upper, c.upper[[3, 8]])
    c.save(tmp_path / "c.pt")
    back = mcdrop.load_prediction(tmp_path / "c.pt")
    assert isinstance(back, WeightedConformalPrediction)
    assert torch.equal(back.interval(0.6)[0], c.interval(0.6)[0])
    column = replace(c, mean=c.mean[:, None])  # as a report does
    assert torch.equal(column.upper[:, 0], c.upper)
    effective = x.sum() ** 2 / (x**2).sum()
    assert f"30 calibration rows, worth {effective:.4g} unweighted" in repr(c)
    np.testing.assert_array_equal(c.to_pandas()["upper"], c.upper)


def test_errors_say_what_to_do() -> None:
    p = normal(np.zeros(4), 1.0)
    make = WeightedConformalRegressor(level=0.5)
    with pytest.raises(mcdrop.RangeError, match='one of "absolute", "normalized", "quantile"'):
        WeightedConformalRegressor("cqr")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.RangeError, match=r"`level` to lie in \(0, 1\)"):
        WeightedConformalRegressor(level=1.0)
    with pytest.raises(mcdrop.UnsupportedError, match=r"Call fit\(prediction, y, weights=\) first"):
        make(p, weights=np.ones(4))
    with pytest.raises(mcdrop.RangeError, match="`weights` to be at least 0 and not all 0"):
        make.fit(p, np.ones(4), weights=[1, 1, 1, -1])
    with pytest.raises(mcdrop.ShapeError, match=r"`weights` to have shape \(4,\)"):
        make.fit(p, np.ones(4), weights=[1, 1])
    with pytest.raises(mcdrop.NonFiniteError, match="`weights` to hold finite numbers"):
        make.fit(p, np.ones(4), weights=[1, 1, 1, np.nan])
    with pytest.raises(mcdrop.UnsupportedError, match="be a RegressionPrediction, but got Class"):
        make.fit(averaged([[0.5, 0.5]]), [0], weights=[1])  # type: ignore[arg-type]
    fitted = make.fit(p, np.ones(4), weights=np.ones(4))
    with pytest.raises(mcdrop.ShapeError, match="as in the fit"):
        fitted(normal(np.zeros((4, 2)), 1.0), weights=np.ones(4))
    with pytest.raises(mcdrop.RangeError, match=r"interval: expected `level` to lie in \(0, 1\)"):
        fitted(p, weights=np.ones(4)).interval(0.0)


def test_an_interval_holds_nine_tenths_if_no_level_is_given() -> None:
    rng = np.random.default_rng(0)
    p, y = forecast(rng, rng.uniform(size=40))
    found = WeightedConformalRegressor(level=0.5).fit(p, y, weights=np.ones(40))(
        p, weights=np.ones(40)
    )
    for end, other in zip(found.interval(), found.interval(0.9), strict=True):
        assert torch.equal(end, other)
