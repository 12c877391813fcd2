"""The map of levels: knots by hand, slopes, precision far out, moments against integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mcdrop.recalibration._level_map import (
    FARTHEST,
    LevelMap,
    even_ranks,
    fitted_level_map,
    model_scores,
    moments,
)
from tests.recalibration.cases import mixture, normal

EXAMPLE = LevelMap(np.asarray(stats.norm.ppf([0.2, 0.6])), [0.5, 0.6])


def test_scores_are_those_of_the_models_distribution_function() -> None:
    y = torch.tensor([0.3, -1.0]).double()
    found = model_scores(normal([0.0, 1.0], [1.0, 2.0]), y)
    np.testing.assert_allclose(found[:, 0], [0.3, -1.0])
    p = mixture(4, by_pass=True)
    assert p.samples is not None
    assert p.sample_variances is not None
    target = torch.linspace(-1, 1, 4)[:, None].double()
    each = stats.norm.cdf(target.numpy(), p.samples.numpy(), p.sample_variances.sqrt().numpy())
    found = stats.norm.cdf(model_scores(p, target))
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)


def test_knots_by_hand() -> None:
    # Ranks 1, 2, 3 of 3 at 1/4, 2/4, 3/4; the two equal ones share (2 + 3) / 2 of 4.
    found = fitted_level_map(np.array([0.6, 0.2, 0.6]), 3)
    np.testing.assert_allclose(found.scores, [0.2, 0.6])
    np.testing.assert_allclose(found.shares, [0.25, 0.625])
    # Two of four ranks: round(5 / 3) = 2 and round(10 / 3) = 3.
    assert even_ranks(4, 2).tolist() == [2, 3]
    half = fitted_level_map(np.array([4.0, 1.0, 3.0, 2.0]), 2)
    np.testing.assert_allclose(half.shares, [0.4, 0.6])
    thinned = fitted_level_map(np.array([4.0, 1.0, 3.0, 2.0]), 4).thinned(2)
    np.testing.assert_allclose(thinned.scores, half.scores)


@pytest.mark.parametrize(
    ("level", "share", "slope"),
    [(0.1, 0.25, 2.5), (0.2, 0.5, 0.25), (0.4, 0.55, 0.25), (0.8, 0.8, 1.0), (0.999, 0.999, 1.0)],
)
def test_the_map_is_linear_in_the_level_between_knots(
    level: float, share: float, slope: float
) -> None:
    z = np.array([stats.norm.ppf(level)])
    assert EXAMPLE.share(z)[0] == pytest.approx(share)
    assert np.exp(EXAMPLE.log_slope(z))[0] == pytest.approx(slope)
    assert EXAMPLE.score(share) == pytest.approx(z[0])


@given(st.lists(st.floats(-36, 36), min_size=1, max_size=20), st.floats(0.001, 0.999))
def test_score_inverts_share_wherever_knots_lie(scores: list[float], share: float) -> None:
    found = fitted_level_map(np.array(scores), len(scores))
    z = found.score(share)
    # Just below a knot, R may fall to that of the knot before within one digit of the score.
    around = found.share(np.array([z - 1e-9, z + 1e-9]))
    assert around[0] - 1e-9 <= share <= around[1] + 1e-9
    for knot, at in zip(found.scores, found.shares, strict=True):
        assert found.score(float(at)) == pytest.approx(knot, abs=1e-9)


def test_outward_is_the_next_knot_away_from_the_middle() -> None:
    nineteen = fitted_level_map(np.arange(19.0), 19)
    assert nineteen.outward((1 - 0.9) / 2) == pytest.approx(1 / 20)
    assert nineteen.outward(0.13) == pytest.approx(2 / 20)
    assert nineteen.outward(0.87) == pytest.approx(18 / 20)
    # The outermost knots count as well; beyond them the tails are as fine as one likes.
    assert nineteen.outward(0.07) == pytest.approx(1 / 20)
    assert nineteen.outward(0.93) == pytest.approx(19 / 20)
    assert nineteen.outward(0.01) == 0.01
    assert nineteen.outward(0.99) == 0.99


@pytest.mark.parametrize("std", [0.5, 3.0])
def test_moments_are_those_of_the_mapped_distribution(std: float) -> None:
    # R(u) = u^2: the larger of two independent draws, of mean std / sqrt(pi) and
    # variance std^2 (1 - 1 / pi).
    u = np.linspace(0, 1, 20001)[1:-1]
    shift, stretch = moments(normal([7.0], std), [LevelMap(stats.norm.ppf(u), u**2)])
    assert shift.item() == pytest.approx(1 / np.sqrt(np.pi), abs=1e-4)
    assert stretch.item() == pytest.approx(np.sqrt(1 - 1 / np.pi), abs=1e-3)


def test_moments_reach_as_far_as_the_knots() -> None:
    # A model ten times too narrow: R(F) is the normal of std 10 at 999 of its levels.
    u = np.arange(1, 1000) / 1000
    _, stretch = moments(normal([0.0], 1.0), [LevelMap(10 * stats.norm.ppf(u), u)])
    # Between knots the mass hugs the inner one; 999 levels leave that a few percent.
    assert stretch.item() == pytest.approx(10, rel=0.05)


def test_mass_beyond_the_farthest_score_is_put_there() -> None:
    # Half of R(F) is F, the other half lies beyond z = 37: of mean 37 / 2 and mean square
    # (1 + 37^2) / 2. Cells of width 0.05 add 0.05^2 / 12 to the variance 1 of F.
    shift, stretch = moments(normal([7.0], 2.0), [LevelMap([FARTHEST], [0.5])])
    assert shift.item() == pytest.approx(37 / 2, abs=1e-6)
    assert stretch.item() == pytest.approx(np.sqrt((1 + 37**2) / 2 - (37 / 2) ** 2), rel=2e-4)


def test_moments_do_not_depend_on_how_many_cells_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, maps = normal([7.0, 1.0], 2.0), [fitted_level_map(np.array([-1.0, 0.5, 2.0]), 3)]
    whole = moments(p, maps)
    # Three edges of two rows at a time.
    monkeypatch.setattr("mcdrop.recalibration._level_map._CELLS", 6)
    for part, value in zip(moments(p, maps), whole, strict=True):
        torch.testing.assert_close(part, value, rtol=1e-12, atol=1e-12)
