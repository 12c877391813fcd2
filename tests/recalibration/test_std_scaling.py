"""Scaling of the predictive std: closed form, mixtures against SciPy, what each part becomes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

import mcdrop
from mcdrop.recalibration import StdScaling
from tests.recalibration.cases import (
    assert_splits_add_up,
    averaged,
    mixture,
    mixture_targets,
    normal,
)

RNG = np.random.default_rng(0)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 10**6))
def test_mean_squared_z_score_becomes_one(n: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = normal(rng.normal(size=(n, outputs)), rng.uniform(0.1, 5, (n, outputs)))
    y = torch.from_numpy(rng.normal(size=(n, outputs)) * 3)
    scaled = StdScaling().fit(p, y)(p)
    z = (y - scaled.mean) / scaled.std
    torch.testing.assert_close(z.square().mean(dim=0), torch.ones(outputs).double())


@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_the_factor_has_no_unit(unit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, std, y = rng.normal(size=9), rng.uniform(0.5, 2, 9), rng.normal(size=9)
    first = StdScaling().fit(normal(mean, std), y).factor
    again = StdScaling().fit(normal(mean * unit, std * unit), y * unit).factor
    torch.testing.assert_close(first, again)


def test_known_factor_is_recovered() -> None:
    p = normal(RNG.normal(size=5000), RNG.uniform(0.5, 2, 5000))
    y = p.mean + 1.7 * p.std * torch.from_numpy(RNG.normal(size=5000))
    # The log of the factor has variance 1 / (2 N): information 2 per row.
    assert abs(StdScaling().fit(p, y).factor.log() - math.log(1.7)) < 3 / math.sqrt(10_000)


@pytest.mark.parametrize("by_pass", [False, True])
def test_mixture_factor_is_most_likely(by_pass: bool) -> None:
    p = mixture(60, by_pass=by_pass)
    y = mixture_targets(p, stretch=2.0)
    assert p.samples is not None
    offsets = (p.samples - p.mean)[..., 0].numpy()
    variances = p.aleatoric_variance.expand_as(p.mean) if not by_pass else p.sample_variances
    assert variances is not None
    stds = np.broadcast_to(variances[..., 0].sqrt().numpy(), offsets.shape)
    if not by_pass:
        stds = np.broadcast_to(p.aleatoric_std[:, 0].numpy(), offsets.shape)
    residual = (y - p.mean[:, 0]).numpy()

    def loss(c: float) -> float:
        return -float(np.log(stats.norm.pdf(residual, c * offsets, c * stds).mean(axis=0)).sum())

    best = optimize.minimize_scalar(loss, bounds=(1.0, 4.0), method="bounded").x
    assert StdScaling().fit(p, y).factor.item() == pytest.approx(best, rel=1e-4)


def test_mixture_of_equal_passes_has_the_factor_of_the_normal() -> None:
    p = mixture(20)
    equal = replace(
        p, samples=p.mean.expand(8, -1, -1), epistemic_variance=torch.zeros_like(p.mean)
    )
    y = RNG.normal(size=20)
    of_normal = StdScaling().fit(equal.as_normal(), y).factor
    torch.testing.assert_close(StdScaling().fit(equal, y).factor, of_normal, rtol=1e-7, atol=0)


def test_the_distribution_is_stretched_about_its_mean() -> None:
    for p in (mixture(15), mixture(15, by_pass=True), mixture(15).as_normal()):
        scaling = StdScaling().fit(p, mixture_targets(p, stretch=3.0))
        scaled, c = scaling(p), scaling.factor
        assert_splits_add_up(scaled)
        torch.testing.assert_close(scaled.epistemic_std, c * p.epistemic_std)
        torch.testing.assert_close(scaled.aleatoric_std, c * p.aleatoric_std)
        assert torch.equal(scaled.mean, p.mean)
        assert torch.equal(scaled.mcse, p.mcse)
        for q in (0.05, 0.5, 0.9):
            torch.testing.assert_close(scaled.quantile(q), p.mean + c * (p.quantile(q) - p.mean))
        y = p.mean + 0.3
        # A density stretched by c is divided by c.
        torch.testing.assert_close(scaled.log_prob(p.mean + 0.3 * c), p.log_prob(y) - c.log())


def test_kept_samples_still_have_the_stated_variance() -> None:
    p = mixture(15)
    scaled = StdScaling().fit(p, mixture_targets(p, 2.0))(p)
    assert scaled.samples is not None
    torch.testing.assert_close(scaled.samples.var(dim=0), scaled.epistemic_variance)
    torch.testing.assert_close(scaled.samples.mean(dim=0), scaled.mean)


def test_factor_one_changes_nothing() -> None:
    # Residuals of one std each: the mean squared z-score is 1 already.
    p = mixture(6)
    scaling = StdScaling().fit(p.as_normal(), p.mean + p.std)
    for name, value in scaling(p).to_numpy().items():
        np.testing.assert_allclose(value, p.to_numpy()[name], rtol=1e-12)


def test_one_row_is_enough() -> None:
    assert StdScaling().fit(normal([1.0], [2.0]), [7.0]).factor.item() == 3


def test_without_passes_the_normal_can_be_scaled() -> None:
    p = replace(mixture(5), samples=None)
    with pytest.raises(mcdrop.OutputError, match=r"keep_samples=True, or .* prediction.as_normal"):
        StdScaling().fit(p, np.zeros(5))
    assert StdScaling().fit(p.as_normal(), np.zeros(5))(p).family == "mixture"


def test_errors_say_what_to_do() -> None:
    p = normal(np.zeros((3, 2)), 1.0)
    with pytest.raises(mcdrop.UnsupportedError, match="StdScaling: expected `self` to be fitted"):
        StdScaling()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="be a RegressionPrediction, but got Class"):
        StdScaling().fit(averaged([[0.5, 0.5]]), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(3, 2\) to match .* but got \(3,\)"):
        StdScaling().fit(p, [0.0, 1.0, 2.0])
    with pytest.raises(mcdrop.NonFiniteError, match="`y` to hold finite .* in row 2"):
        StdScaling().fit(p, [[0, 1], [0, 1], [0, np.nan]])
    with pytest.raises(mcdrop.RangeError, match="no residual at all in some output"):
        StdScaling().fit(p, [[0, 1], [0, 1], [0, 1]])
    with pytest.raises(mcdrop.RangeError, match="a variance of 0 in some rows. Predict with noise"):
        StdScaling().fit(normal([0.0, 0.0], [0.0, 1.0]), [1, 1])
    silent = replace(mixture(3), aleatoric_variance=torch.zeros(3, 1).double())
    with pytest.raises(mcdrop.RangeError, match="have observation noise"):
        StdScaling().fit(silent, [1, 2, 3])
    scaling = StdScaling().fit(p, [[1, 1], [1, 1], [1, 1]])
    with pytest.raises(mcdrop.ShapeError, match=r"rows of shape \(2,\), as in the fit"):
        scaling(normal(np.zeros((3, 1)), 1.0))


def spikes(centers: list[float], noise: float, n: int) -> mcdrop.RegressionPrediction:
    samples = torch.tensor(centers).double().reshape(-1, 1, 1).expand(-1, n, 1)
    return replace(
        mixture(n, passes=len(centers)),
        mean=samples.mean(dim=0),
        samples=samples,
        epistemic_variance=samples.var(dim=0),
        aleatoric_variance=torch.full((n, 1), noise**2).double(),
    )


def test_sharp_modes_are_found() -> None:
    # Modes at -+1 and targets at -+0.001: the modes meet them when scaled by 0.001.
    factor = StdScaling().fit(spikes([-1, 1], 1e-4, 2), [1e-3, -1e-3]).factor.item()
    assert factor == pytest.approx(1e-3, rel=1e-3)


def test_a_factor_out_of_reach_is_not_made_up() -> None:
    # All targets come from the sharp middle pass, so the factor is 1; the normal, as wide as the
    # outer passes, would be scaled by about 1e-6.
    y = RNG.normal(size=50) * 1e-3
    with pytest.raises(mcdrop.RangeError, match="most likely factor within.*check noise_std"):
        StdScaling().fit(spikes([-1000, 0, 1000], 1e-3, 50), y)
