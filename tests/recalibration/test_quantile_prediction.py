"""The recalibrated distribution, given its map: one law told in three ways."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import mcdrop
from mcdrop.recalibration import QuantileRecalibratedPrediction
from tests.recalibration.cases import normal

# R takes half of the mass to the lowest fifth of the levels.
KNOTS, SHARES = ((float(stats.norm.ppf(0.2)),),), ((0.5,),)


def mapped(**changes: Any) -> QuantileRecalibratedPrediction:
    p = normal([2.0], 3.0)
    plain = {f.name: getattr(p, f.name) for f in fields(mcdrop.RegressionPrediction)}
    one = torch.ones(1).double()
    extra: dict[str, Any] = {
        "model_mean": p.mean,
        "stretch": one,
        "knot_scores": KNOTS,
        "knot_shares": SHARES,
    }
    return QuantileRecalibratedPrediction(**{**plain, **extra, **changes})


@pytest.mark.parametrize(("q", "level"), [(0.5, 0.2), (0.25, 0.1), (0.75, 0.6)])
def test_quantile_is_the_models_at_the_mapped_level(q: float, level: float) -> None:
    assert mapped().quantile(q).item() == pytest.approx(stats.norm.ppf(level, 2, 3))
    several = mapped().quantile(np.array([q, 0.5]))
    assert several.shape == (2, 1)
    assert several[0].item() == pytest.approx(stats.norm.ppf(level, 2, 3))


def test_ends_of_an_interval_move_outward_to_a_knot_and_quantiles_do_not() -> None:
    # R takes the levels 0.2, 0.5, 0.8 to 0.25, 0.5, 0.75, between which 0.3 comes from 0.26.
    knots = (tuple(float(stats.norm.ppf(level)) for level in (0.2, 0.5, 0.8)),)
    p = mapped(knot_scores=knots, knot_shares=((0.25, 0.5, 0.75),))
    low, high = p.interval(0.4)
    assert p.quantile(0.3).item() == pytest.approx(stats.norm.ppf(0.26, 2, 3))
    assert low.item() == pytest.approx(stats.norm.ppf(0.2, 2, 3))
    assert high.item() == pytest.approx(stats.norm.ppf(0.8, 2, 3))


def test_density_has_the_slope_of_the_map() -> None:
    # R' is 0.5 / 0.2 below the first knot and 0.5 / 0.8 above.
    for y, slope in ((-4.0, 2.5), (3.0, 0.625)):
        expected = stats.norm.logpdf(y, 2, 3) + np.log(slope)
        assert mapped().log_prob([y]).item() == pytest.approx(expected, rel=1e-6)


def test_moved_fields_do_not_move_the_distribution() -> None:
    # The fields hold mean + 1 and std * 2; the law is still that of model_mean and R.
    p = normal([3.0], 6.0)
    moved = mapped(
        mean=p.mean,
        epistemic_variance=p.epistemic_variance,
        aleatoric_variance=p.aleatoric_variance,
        stretch=torch.full((1,), 2.0).double(),
    )
    torch.testing.assert_close(moved.quantile(0.3), mapped().quantile(0.3))
    torch.testing.assert_close(moved.log_prob([0.7]), mapped().log_prob([0.7]))


def test_errors_name_the_recalibrated_prediction() -> None:
    with pytest.raises(mcdrop.RangeError, match="QuantileRecalibratedPrediction.quantile: exp"):
        mapped().quantile([0.5, 1.0])
    with pytest.raises(mcdrop.RangeError, match="QuantileRecalibratedPrediction.interval: exp"):
        mapped().interval(0.0)
