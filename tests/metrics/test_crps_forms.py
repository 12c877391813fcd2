"""Closed forms of the CRPS against numerical integration, scoringrules and their own limits."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import torch
from scipy import integrate, stats

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import (
    crps_ensemble,
    crps_forms,
    crps_mixture,
    crps_normal,
    threshold_weighted_crps,
)

RNG = np.random.default_rng(0)
MEANS, STDS, Y = RNG.normal(size=(7, 12)), RNG.uniform(0.2, 1.5, (7, 12)), RNG.normal(size=12)


def test_mixture_is_the_integral_of_the_squared_difference() -> None:
    found = np.asarray(crps_mixture(MEANS, STDS, Y))
    for row in range(3):

        def squared(t: float, row: int = row) -> float:
            cdf = np.mean(stats.norm.cdf(t, MEANS[:, row], STDS[:, row]))
            return float((cdf - (t >= Y[row])) ** 2)

        want = integrate.quad(squared, -15, Y[row])[0] + integrate.quad(squared, Y[row], 15)[0]
        assert found[row] == pytest.approx(want, abs=1e-7)


def test_scoringrules_gives_the_same_mixture() -> None:
    theirs = scoringrules.crps_mixnorm(Y, MEANS, STDS, m_axis=0)
    np.testing.assert_allclose(crps_mixture(MEANS, STDS, Y), theirs, rtol=1e-10)


def test_one_component_is_the_normal_and_narrow_ones_are_the_ensemble() -> None:
    np.testing.assert_allclose(
        crps_mixture(MEANS[:1], STDS[:1], Y), crps_normal(MEANS[0], STDS[0], Y), rtol=1e-12
    )
    np.testing.assert_allclose(
        crps_mixture(MEANS, np.full_like(MEANS, 1e-9), Y),
        crps_ensemble(MEANS, Y, estimator="energy"),
        atol=1e-8,
    )


def test_outputs_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(crps_mixture(MEANS, STDS, Y))
    wide = crps_mixture(MEANS.reshape(7, 4, 3), STDS.reshape(7, 4, 3), Y.reshape(4, 3))
    np.testing.assert_allclose(wide, whole.reshape(4, 3))
    monkeypatch.setattr(crps_forms, "_PAIRS_AT_ONCE", 60)
    np.testing.assert_allclose(crps_mixture(MEANS, STDS, Y), whole)
    single = crps_mixture(*(torch.from_numpy(a).float() for a in (MEANS, STDS, Y)))
    assert isinstance(single, torch.Tensor)
    assert single.dtype == torch.float32


@pytest.mark.parametrize(("lower", "upper"), [(0.3, np.inf), (-np.inf, -0.2), (-0.5, 0.5)])
def test_threshold_weights_are_those_of_scoringrules_and_of_the_integral(
    lower: float, upper: float
) -> None:
    found = threshold_weighted_crps(MEANS, Y, lower=lower, upper=upper, estimator="energy")
    theirs = scoringrules.twcrps_ensemble(Y, MEANS, lower, upper, m_axis=0, estimator="nrg")
    np.testing.assert_allclose(found, theirs, atol=1e-12)
    grid = np.linspace(max(lower, -8), min(upper, 8), 400_001)
    for row in range(3):
        cdf = (MEANS[:, row, None] <= grid).mean(axis=0)
        want = integrate.trapezoid((cdf - (grid >= Y[row])) ** 2, grid)
        assert np.asarray(found)[row] == pytest.approx(want, abs=1e-4)


def test_no_thresholds_are_the_plain_score() -> None:
    np.testing.assert_array_equal(threshold_weighted_crps(MEANS, Y), crps_ensemble(MEANS, Y))


def test_one_pass_has_an_energy_form_and_no_fair_one() -> None:
    # The distance from 2 to 4 that lies above 3.
    assert threshold_weighted_crps([[2.0]], [4.0], lower=3.0, estimator="energy").tolist() == [1.0]
    with pytest.raises(ShapeError, match="threshold_weighted_crps: expected `samples` to"):
        threshold_weighted_crps([[2.0]], [4.0], lower=3.0)


def test_parts_add_up_to_the_whole() -> None:
    below = np.asarray(threshold_weighted_crps(MEANS, Y, upper=0.1))
    above = np.asarray(threshold_weighted_crps(MEANS, Y, lower=0.1))
    np.testing.assert_allclose(below + above, crps_ensemble(MEANS, Y), atol=1e-12)


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match="`lower` to be below `upper`, 1.0, but got 2.0"):
        threshold_weighted_crps(MEANS, Y, lower=2.0, upper=1.0)
    with pytest.raises(ShapeError, match="crps_mixture: expected `stds` to have as many passes"):
        crps_mixture(MEANS, STDS[:3], Y)
    with pytest.raises(RangeError, match="crps_mixture: expected `stds` to be greater than 0"):
        crps_mixture(MEANS, 0 * STDS, Y)
    with pytest.raises(RangeError, match='`estimator` to be one of "fair", "energy"'):
        threshold_weighted_crps(MEANS, Y, estimator="crps")  # type: ignore[arg-type]


def test_a_draw_that_is_not_finite_is_named_by_its_row() -> None:
    samples = np.zeros((3, 4, 2))
    samples[1, 2, 0] = np.nan
    with pytest.raises(NonFiniteError, match="in row 2"):
        threshold_weighted_crps(samples, np.zeros((4, 2)))
