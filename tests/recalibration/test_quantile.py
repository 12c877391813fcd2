"""Quantile recalibration: levels by hand, exact coverage, one consistent distribution."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import mcdrop
from mcdrop.metrics import pit_normal, quantile_calibration_error
from mcdrop.recalibration import (
    ConformalRegressor,
    QuantileRecalibratedPrediction,
    QuantileRecalibration,
    StdScaling,
)
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    mixture,
    mixture_targets,
    normal,
)

RNG = np.random.default_rng(0)
PLACES = torch.linspace(0.05, 0.95, 19).double()


def skewed(n: int = 400) -> QuantileRecalibratedPrediction:
    """A normal forecast of exponential targets, recalibrated."""
    y = np.random.default_rng(1).exponential(size=n)
    return QuantileRecalibration().fit(normal(np.zeros(n), 1.0), y)(normal(np.zeros(3), 1.0))


@pytest.mark.parametrize("n_knots", [3, None])
def test_levels_by_hand(n_knots: int | None) -> None:
    # Three targets at the model's own levels 0.2, 0.3, 0.4. All knots: R(0.2) = 1/4, R(0.3) = 2/4,
    # R(0.4) = 3/4. By default round(sqrt(3)) = 2, of ranks round(4/3) = 1 and round(8/3) = 3.
    y = stats.norm.ppf([0.4, 0.2, 0.3])
    q = QuantileRecalibration(n_knots).fit(normal(np.zeros(3), 1.0), y)(normal([5.0], 2.0))
    np.testing.assert_allclose(q.quantile([0.25, 0.75])[:, 0], 5 + 2 * np.sort(y)[[0, 2]])
    # Half way between two knots lies half way between their levels.
    np.testing.assert_allclose(q.quantile(0.5)[0], 5 + 2 * stats.norm.ppf(0.3))
    np.testing.assert_allclose(q.quantile(0.125)[0], 5 + 2 * stats.norm.ppf(0.1))


@pytest.mark.parametrize("p", [normal(np.zeros(19), 1.0), mixture(19)])
def test_uniform_levels_are_left_alone(p: mcdrop.RegressionPrediction) -> None:
    y = torch.stack([p.quantile(float(u))[i] for i, u in enumerate(PLACES)])
    q = QuantileRecalibration(n_knots=19).fit(p, y)(p)
    for level in (0.01, 0.33, 0.9):
        torch.testing.assert_close(q.quantile(level), p.quantile(level), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.log_prob(y), p.log_prob(y), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q.mean, p.mean, rtol=0, atol=1e-7)
    torch.testing.assert_close(q.std, p.std, rtol=1e-6, atol=0)


def test_new_targets_fall_below_each_knot_as_often_as_said() -> None:
    # Exact for exchangeable levels: P(y below the quantile at k / (n + 1)) = k / (n + 1).
    rng, n, repetitions = np.random.default_rng(2), 9, 2000
    inside = np.zeros(4)
    levels = [0.1, 0.3, 0.5, 0.9]
    for _ in range(repetitions):
        y = rng.gamma(1.0, size=n + 1)
        fit = QuantileRecalibration(n_knots=n).fit(normal(np.zeros(n), 4.0), y[:n])
        q = fit(normal([0.0], 4.0))
        inside += y[n] <= q.quantile(levels)[:, 0].numpy()
    error = np.sqrt(np.array(levels) * (1 - np.array(levels)) / repetitions)
    assert (np.abs(inside / repetitions - levels) < 4 * error).all()


def test_held_out_calibration_error_falls() -> None:
    rng = np.random.default_rng(3)
    y = rng.exponential(size=(2, 4000))
    p = normal(np.ones(4000), 2.0)
    q = QuantileRecalibration().fit(p, y[0])(p)
    below = np.mean(y[1] <= np.asarray(q.quantile(PLACES.tolist())), axis=1)
    # Standard error 0.008 from either half.
    assert np.abs(below - PLACES.numpy()).max() < 0.035
    before = quantile_calibration_error(np.asarray(pit_normal(p.mean, p.std, y[1])))
    assert before > 0.1


def test_density_integrates_to_one_and_matches_the_quantiles() -> None:
    q = skewed()[0]

    def density(t: float) -> float:
        return math.exp(q.log_prob([t]).item())

    for level in (0.25, 0.8):
        end = q.quantile(level).item()
        knots = np.unique([-9.0, *q.quantile(np.linspace(0.01, level, 60).tolist())[:, 0], end])
        mass = sum(integrate.fixed_quad(np.vectorize(density), a, b)[0] for a, b in pairwise(knots))
        assert mass == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("by_pass", [False, True])
def test_moments_are_those_of_the_quantiles(by_pass: bool) -> None:
    p = mixture(120, by_pass=by_pass)
    q = QuantileRecalibration().fit(p, mixture_targets(p, 1.5) + 0.4)(p[:3])
    levels = (np.arange(2000) + 0.5) / 2000
    values = q.quantile(levels.tolist()).numpy()
    np.testing.assert_allclose(q.mean, values.mean(axis=0), atol=3e-3)
    # The stated variance over passes divides by S - 1, that of the mixture by S.
    mixed = p[:3].epistemic_variance * 7 / 8 + p[:3].aleatoric_variance
    ratio = (q.std / p[:3].std * mixed.sqrt()).numpy()
    np.testing.assert_allclose(ratio, values.std(axis=0), rtol=5e-3)
    assert_splits_add_up(q)
    share = p[:3].epistemic_variance / p[:3].variance
    torch.testing.assert_close(q.epistemic_variance / q.variance, share)
    assert q.samples is not None
    torch.testing.assert_close(q.samples.mean(dim=0), q.mean)
    torch.testing.assert_close(q.samples.var(dim=0), q.epistemic_variance)


def test_intervals_are_pairs_of_quantiles() -> None:
    q = skewed()
    lower, upper = q.interval(0.8)
    torch.testing.assert_close(lower, q.quantile(0.1))
    torch.testing.assert_close(upper, q.quantile(0.9))
    # Exponential targets: lower end near 0.105, upper near 2.303, within the noise of 400 rows.
    assert lower[0].item() == pytest.approx(0.105, abs=0.1)
    assert upper[0].item() == pytest.approx(2.303, abs=0.5)


def test_as_normal_has_the_recalibrated_moments() -> None:
    q = skewed()
    plain = q.as_normal()
    assert type(plain) is mcdrop.RegressionPrediction
    torch.testing.assert_close(plain.quantile(0.9), q.mean + stats.norm.ppf(0.9) * q.std)


def test_each_output_has_its_own_map() -> None:
    y = RNG.normal(size=(30, 2)) * [0.5, 3.0]
    both = QuantileRecalibration().fit(normal(np.zeros((30, 2)), 1.0), y)(normal([[0.0, 1.0]], 1.0))
    for d in range(2):
        one = QuantileRecalibration().fit(normal(np.zeros(30), 1.0), y[:, d])
        alone = one(normal([float(d)], 1.0))
        torch.testing.assert_close(both.quantile(0.7)[:, d], alone.quantile(0.7))
        torch.testing.assert_close(both.log_prob([[0.2, 0.2]])[:, d], alone.log_prob([0.2]))
        torch.testing.assert_close(both.std[:, d], alone.std)


def test_outliers_and_ties_are_safe() -> None:
    y = np.array([-1e6, *RNG.normal(size=17), 0.0, 0.0, 0.0])
    q = QuantileRecalibration(21).fit(normal(np.zeros(21), 1.0), y)(normal([0.0], 1.0))
    levels = q.quantile(np.linspace(0.01, 0.99, 50).tolist())
    assert bool(torch.isfinite(levels).all())
    assert bool((levels.diff(dim=0) >= 0).all())
    assert bool(torch.isfinite(q.log_prob([0.1])).all())
    # Ties share their mean rank, that of the middle one of three.
    rank = (y < 0).sum() + 2
    assert q.quantile(float(rank / 22)).item() == pytest.approx(0, abs=1e-6)


def test_targets_beyond_every_level_are_not_mapped_in_silence() -> None:
    with pytest.raises(mcdrop.RangeError, match="100% of an output about 8 std .*Scale the std"):
        QuantileRecalibration().fit(normal(np.zeros(9), 0.1), np.full(9, 3.0))
    p = normal(np.zeros(9), 0.1)
    y = RNG.normal(3, 1, 9)
    scaled = StdScaling().fit(p, y)(p)
    assert isinstance(
        QuantileRecalibration().fit(scaled, y)(scaled), QuantileRecalibratedPrediction
    )


def test_one_row_splits_the_mass_in_halves() -> None:
    q = QuantileRecalibration().fit(normal([0.0], 1.0), [1.5])(normal([0.0], 1.0))
    assert q.quantile(0.5).item() == pytest.approx(1.5)


def test_rows_and_files(tmp_path: Path) -> None:
    p = mixture(30)
    q = QuantileRecalibration().fit(p, mixture_targets(p))(p)
    torch.testing.assert_close(q[[2, 5]].quantile(0.3), q.quantile(0.3)[[2, 5]])
    q.save(tmp_path / "q.pt")
    back = QuantileRecalibratedPrediction.load(tmp_path / "q.pt")
    assert torch.equal(back.quantile(0.3), q.quantile(0.3))
    assert torch.equal(back.log_prob(np.zeros(30)), q.log_prob(np.zeros(30)))
    assert "5 knots" in repr(q)
    assert len(q.to_pandas()) == 30


def test_errors_say_what_to_do() -> None:
    p = normal(np.zeros(3), 1.0)
    with pytest.raises(mcdrop.RangeError, match="`n_knots` to be an integer of at least 1"):
        QuantileRecalibration(0)
    with pytest.raises(mcdrop.RangeError, match="at least 4 rows for n_knots=4, but got 3"):
        QuantileRecalibration(4).fit(p, [1, 2, 3])
    with pytest.raises(mcdrop.UnsupportedError, match="QuantileRecalibration: expected `self`"):
        QuantileRecalibration()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="be a RegressionPrediction, but got Class"):
        QuantileRecalibration().fit(averaged([[0.5, 0.5]]), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(3,\) to match"):
        QuantileRecalibration().fit(p, [1, 2])
    with pytest.raises(mcdrop.OutputError, match="keep_samples=True, or recalibrate prediction"):
        QuantileRecalibration().fit(replace(mixture(3), samples=None), [1, 2, 3])
    with pytest.raises(mcdrop.RangeError, match="has no density"):
        QuantileRecalibration().fit(normal(np.zeros(3), 0.0), [1, 2, 3])
    fitted = QuantileRecalibration().fit(p, [1, 2, 3])
    with pytest.raises(mcdrop.ShapeError, match=r"rows of shape \(\), as in the fit"):
        fitted(normal(np.zeros((3, 1)), 1.0))
    with pytest.raises(mcdrop.RangeError, match=r"`q` to lie in \(0, 1\)"):
        fitted(p).quantile(1.0)


def test_what_no_longer_follows_its_fields_is_not_scaled_again() -> None:
    p = normal(np.zeros(9), 1.0)
    y = RNG.normal(size=9)
    for last in (QuantileRecalibration().fit(p, y)(p), ConformalRegressor(level=0.5).fit(p, y)(p)):
        with pytest.raises(mcdrop.UnsupportedError, match="Let this correction come first"):
            StdScaling().fit(last, y)
