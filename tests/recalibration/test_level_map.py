"""The map of levels: knots by hand, slopes, moments against integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.recalibration._level_map import fitted_level_map, log_slopes, model_levels, moments
from tests.recalibration.cases import mixture, normal


def test_levels_are_the_models_distribution_function() -> None:
    y = torch.tensor([0.3, -1.0]).double()
    found = model_levels(normal([0.0, 1.0], [1.0, 2.0]), y)
    np.testing.assert_allclose(found[:, 0], stats.norm.cdf([0.3, -1.0], [0, 1], [1, 2]))
    p = mixture(4, by_pass=True)
    assert p.samples is not None
    assert p.sample_variances is not None
    target = torch.linspace(-1, 1, 4)[:, None].double()
    each = stats.norm.cdf(target.numpy(), p.samples.numpy(), p.sample_variances.sqrt().numpy())
    np.testing.assert_allclose(model_levels(p, target), np.mean(each, axis=0), rtol=1e-12)


def test_knots_by_hand() -> None:
    # Ranks 1, 2, 3 of 3 at 1/4, 2/4, 3/4; the two equal levels share (2 + 3) / 2 of 4.
    knots, shares = fitted_level_map(np.array([0.6, 0.2, 0.6]), 3)
    np.testing.assert_allclose(knots, [0, 0.2, 0.6, 1])
    np.testing.assert_allclose(shares, [0, 0.25, 0.625, 1])


def test_slopes_are_those_of_the_pieces() -> None:
    level_map = (np.array([0, 0.2, 0.6, 1]), np.array([0, 0.5, 0.6, 1]))
    found = log_slopes(np.array([[0.0], [0.1], [0.2], [0.5], [1.0]]), [level_map])
    np.testing.assert_allclose(np.exp(found[:, 0]), [2.5, 2.5, 0.25, 0.25, 1.0])


@pytest.mark.parametrize("std", [0.5, 3.0])
def test_moments_are_those_of_the_mapped_distribution(std: float) -> None:
    # R(u) = u^2: the larger of two independent draws, of mean std / sqrt(pi) and
    # variance std^2 (1 - 1 / pi).
    u = np.linspace(0, 1, 20001)
    shift, stretch = moments(normal([7.0], std), [(u, u**2)])
    assert shift.item() == pytest.approx(1 / np.sqrt(np.pi), abs=1e-4)
    assert stretch.item() == pytest.approx(np.sqrt(1 - 1 / np.pi), abs=1e-3)
