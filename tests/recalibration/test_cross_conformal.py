"""CV+ and the jackknife+: against their definition in loops, the guarantee by simulation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from mcdrop import RegressionPrediction
from mcdrop.baselines import Ridge
from mcdrop.recalibration import CrossConformalPrediction, CrossConformalRegressor
from mcdrop.recalibration.cross_conformal import CrossMethod
from tests.recalibration.cases import normal

METHODS: tuple[CrossMethod, ...] = ("absolute", "normalized")


def folds_of(n: int, k: int) -> torch.Tensor:
    return torch.arange(n) % k


def trained(
    X: np.ndarray, y: np.ndarray, k: int
) -> tuple[list[Ridge], RegressionPrediction, torch.Tensor]:
    """K ridge models and what each says about the rows it has not seen."""
    folds = folds_of(len(X), k)
    models = [Ridge(1.0).fit(X[folds != f], y[folds != f]) for f in range(k)]
    left_out = CrossConformalRegressor.gathered([m.predict(X) for m in models], folds)
    return models, left_out, folds


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "k", "level"), [(12, 3, 0.7), (12, 12, 0.9), (10, 2, 0.5)])
def test_ends_follow_their_definition(method: CrossMethod, n: int, k: int, level: float) -> None:
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(n, 2)), rng.normal(size=(5, 2))
    y = X.sum(axis=1) + rng.normal(size=n)
    models, left_out, folds = trained(X, y, k)
    fitted = CrossConformalRegressor(method, level).fit(left_out, y, folds=folds)
    found = fitted([m.predict(new) for m in models])
    lower, upper = found.interval(level)
    assert torch.equal(found.lower, lower)
    assert torch.equal(found.upper, upper)
    for row in range(5):
        below, above = [], []
        for i in range(n):
            model = models[int(folds[i])]
            seen, at = model.predict(X[i : i + 1]), model.predict(new[row : row + 1])
            residual = abs(y[i] - seen.mean.item())
            if method == "normalized":
                residual *= at.std.item() / seen.std.item()
            below.append(at.mean.item() - residual)
            above.append(at.mean.item() + residual)
        # Barber et al. (2021): floor(alpha (n + 1))-th and ceil((1 - alpha)(n + 1))-th smallest.
        low = sorted(below)[math.floor(round((1 - level) * (n + 1), 9)) - 1]
        high = sorted(above)[math.ceil(round(level * (n + 1), 9)) - 1]
        assert lower[row].item() == pytest.approx(low)
        assert upper[row].item() == pytest.approx(high)


@given(st.integers(0, 10**6))
def test_models_that_agree_give_the_split_interval(seed: int) -> None:
    # If all models say the same, CV+ is split conformal with absolute errors.
    rng = np.random.default_rng(seed)
    y = rng.normal(size=19)
    p = normal(np.zeros(19), 1.0)
    c = CrossConformalRegressor(level=0.9).fit(p, y, folds=folds_of(19, 3))
    lower, upper = c([normal([2.0], 1.0)] * 3).interval(0.9)
    reach = np.sort(np.abs(y))[17]
    assert lower.item() == pytest.approx(2 - reach)
    assert upper.item() == pytest.approx(2 + reach)


@pytest.mark.parametrize("k", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_coverage_is_above_its_guarantee_and_near_the_level(k: int) -> None:
    rng, n, level = np.random.default_rng(1), 20, 0.9
    inside = np.zeros(60)
    for i in range(len(inside)):
        X = rng.normal(size=(n + 40, 3))
        y = X @ [1.0, -1.0, 0.5] + rng.standard_t(3, size=n + 40)
        models, left_out, folds = trained(X[:n], y[:n], k)
        fitted = CrossConformalRegressor(level=level).fit(left_out, y[:n], folds=folds)
        lower, upper = fitted([m.predict(X[n:]) for m in models]).interval(level)
        inside[i] = np.mean((lower.numpy() <= y[n:]) & (y[n:] <= upper.numpy()))
    error = inside.std() / np.sqrt(len(inside))
    alpha = 1 - level
    bound = 1 - 2 * alpha - min(2 * (1 - 1 / k) / (n / k + 1), (1 - k / n) / (k + 1))
    assert inside.mean() > bound
    assert abs(inside.mean() - level) < 4 * error + 0.05


def test_gathered_takes_each_row_from_its_fold() -> None:
    models = [normal(np.full(4, float(k)), 1.0 + k) for k in range(2)]
    found = CrossConformalRegressor.gathered(models, [1, 0, 0, 1])
    assert found.mean.tolist() == [1, 0, 0, 1]
    torch.testing.assert_close(found.std, torch.tensor([2.0, 1.0, 1.0, 2.0]).double())


def test_fields_are_those_of_the_mixture_of_models() -> None:
    p = normal(np.zeros(4), 1.0)
    fitted = CrossConformalRegressor(level=0.5).fit(p, np.ones(4), folds=[0, 0, 1, 1])
    c = fitted([normal([1.0], 1.0), normal([3.0], 2.0)])
    # Mean 2; within (1 + 4) / 2 and between ((1 - 2)^2 + (3 - 2)^2) / 2.
    assert c.mean.item() == 2
    assert c.variance.item() == pytest.approx(2.5 + 1)
    assert c.aleatoric_variance.item() == pytest.approx(2.5 * 3 / 4)
    torch.testing.assert_close(c.variance, c.epistemic_variance + c.aleatoric_variance)


def test_several_outputs_and_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(20, 2)) * [1, 10]
    p = normal(np.zeros((20, 2)), 1.0)
    new = [normal(rng.normal(size=(7, 2)), 1.0) for _ in range(4)]
    whole = CrossConformalRegressor(level=0.8).fit(p, y, folds=folds_of(20, 4))(new)
    for d in range(2):
        one = CrossConformalRegressor(level=0.8)
        one.fit(normal(np.zeros(20), 1.0), y[:, d], folds=folds_of(20, 4))
        alone = one([normal(q.mean[:, d], 1.0) for q in new])
        torch.testing.assert_close(whole.upper[:, d], alone.upper)
    upper = whole.upper
    monkeypatch.setattr("mcdrop.recalibration.cross_conformal._CELLS", 40)
    assert torch.equal(whole.upper, upper)


def test_rows_and_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    p = normal(np.zeros(20), 1.0)
    fitted = CrossConformalRegressor("normalized", 0.8)
    fitted.fit(p, rng.normal(size=20), folds=folds_of(20, 4))
    c = fitted([normal(rng.normal(size=6), 1.0 + k) for k in range(4)])
    assert torch.equal(c[[1, 4]].upper, c.upper[[1, 4]])
    c.save(tmp_path / "c.pt")
    back = mcdrop.load_prediction(tmp_path / "c.pt")
    assert isinstance(back, CrossConformalPrediction)
    assert torch.equal(back.interval(0.6)[0], c.interval(0.6)[0])
    assert "normalized, 4 folds, 20 rows" in repr(c)
    assert len(c.to_pandas()) == 6


def test_errors_say_what_to_do() -> None:
    p = normal(np.zeros(8), 1.0)
    make = CrossConformalRegressor(level=0.5)
    with pytest.raises(mcdrop.RangeError, match='`method` to be one of "absolute", "normalized"'):
        CrossConformalRegressor("quantile")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.RangeError, match="at least 9 training rows for level 0.9, but got"):
        CrossConformalRegressor().fit(p, np.ones(8), folds=folds_of(8, 2))
    with pytest.raises(mcdrop.RangeError, match="number at least two folds from 0 to K - 1"):
        make.fit(p, np.ones(8), folds=np.zeros(8))
    with pytest.raises(mcdrop.RangeError, match="number at least two folds from 0 to K - 1"):
        make.fit(p, np.ones(8), folds=[0, 0, 0, 0, 2, 2, 2, 2])
    with pytest.raises(mcdrop.ShapeError, match=r"`folds` to have shape \(8,\)"):
        make.fit(p, np.ones(8), folds=[0, 1])
    with pytest.raises(mcdrop.UnsupportedError, match=r"Call fit\(prediction, y, folds=\) first"):
        make([p, p])
    fitted = make.fit(p, np.ones(8), folds=folds_of(8, 2))
    with pytest.raises(mcdrop.ShapeError, match="one prediction for each of 2 folds, but got 3"):
        fitted([p, p, p])
    with pytest.raises(mcdrop.ShapeError, match="hold predictions of one shape"):
        fitted([p, p[:3]])
    with pytest.raises(mcdrop.ShapeError, match="hold predictions of one shape, but got none"):
        fitted([])
    with pytest.raises(mcdrop.RangeError, match="at least 99 training rows for level 0.99"):
        fitted([p, p]).interval(0.99)
