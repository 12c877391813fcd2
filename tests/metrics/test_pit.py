from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import pit, pit_mixture, pit_normal, pit_uniformity_test

RNG = np.random.default_rng(0)


def test_normal_pit_is_the_distribution_function() -> None:
    mean, std, y = RNG.normal(size=20), RNG.uniform(0.5, 2, 20), RNG.normal(size=20)
    np.testing.assert_allclose(pit_normal(mean, std, y), stats.norm.cdf(y, mean, std), rtol=1e-13)


def test_mixture_pit_is_the_mean_over_passes() -> None:
    means, stds, y = RNG.normal(size=(5, 8)), RNG.uniform(0.5, 2, (5, 8)), RNG.normal(size=8)
    each = [pit_normal(m, s, y) for m, s in zip(means, stds, strict=True)]
    np.testing.assert_allclose(pit_mixture(means, stds, y), np.mean(each, axis=0), rtol=1e-13)


def test_ranks_by_hand() -> None:
    # Passes 1, 2, 2, 5. y = 2: one below, two ties: (1 + 3 / 2) / 5. y = 9: (4 + 1 / 2) / 5.
    samples = np.array([[1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [5.0, 5.0]])
    np.testing.assert_allclose(pit(samples, [2.0, 9.0], seed=None), [0.5, 0.9], rtol=1e-15)


@pytest.mark.parametrize("passes", [1, 4, 50])
def test_target_that_could_be_a_pass_has_a_uniform_pit(passes: int) -> None:
    draws = np.random.default_rng(passes).normal(size=(passes + 1, 4000))
    # A p-value below 0.001 has that chance; the seeds are fixed.
    assert pit_uniformity_test(pit(draws[1:], draws[0])).p_value > 0.001


def test_ties_do_not_spoil_uniformity() -> None:
    draws = np.random.default_rng(1).integers(0, 3, (6, 5000))
    assert pit_uniformity_test(pit(draws[1:], draws[0])).p_value > 0.001


def test_too_narrow_passes_are_found_out() -> None:
    rng = np.random.default_rng(2)
    values = pit(rng.normal(0, 0.7, (50, 1000)), rng.normal(size=1000))
    assert pit_uniformity_test(values).p_value < 1e-4


def test_targets_below_the_forecast_have_low_pit() -> None:
    # The sign that a library of the field has reversed: predictions 3 too high.
    assert pit_normal([3.0], [1.0], [0.0])[0] == pytest.approx(stats.norm.cdf(-3))
    assert pit(np.full((9, 1), 3.0), [0.0], seed=None)[0] == pytest.approx(0.05)


def test_seed_decides_the_random_part_alone() -> None:
    samples, y = RNG.normal(size=(3, 50)), RNG.normal(size=50)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert np.array_equal(pit(samples, y, seed=1), pit(samples, y, seed=1))
    assert not np.array_equal(pit(samples, y, seed=1), pit(samples, y, seed=2))
    assert np.abs(np.asarray(pit(samples, y)) - pit(samples, y, seed=None)).max() <= 0.5 / 4
    assert torch.equal(torch.get_rng_state(), state)


def test_uniformity_statistic_is_scipys() -> None:
    values = RNG.uniform(size=300) ** 1.2
    found = pit_uniformity_test(torch.from_numpy(values))
    want = stats.kstest(values, "uniform")
    assert found.statistic == pytest.approx(want.statistic)
    assert found.p_value == pytest.approx(want.pvalue)
    assert found.n == 300


def test_values_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match=r"`pit_values` to lie in \[0, 1\], but got 1\.5 in row 1"):
        pit_uniformity_test([0.5, 1.5])
    with pytest.raises(RangeError, match="pit_normal: expected `std` to be greater than 0"):
        pit_normal([0.0], [0.0], [0.0])
    with pytest.raises(
        ShapeError, match=r"pit: expected `samples` .* Put passes first: samples\.T"
    ):
        pit(np.zeros((5, 2)), np.zeros(5))
    with pytest.raises(NonFiniteError, match="pit_mixture: expected `y`"):
        pit_mixture([[0.0]], [[1.0]], [np.inf])
    # Rows are the second axis of passes (S, N).
    with pytest.raises(NonFiniteError, match=r"pit: expected `samples`.* row 2\."):
        pit([[0.0, 0.0, np.nan]], np.zeros(3))
    with pytest.raises(RangeError, match=r"pit_mixture: expected `stds`.* row 2\."):
        pit_mixture(np.zeros((1, 3)), [[1.0, 1.0, 0.0]], np.zeros(3))


def test_on_a_grid_the_first_row_of_four_is_ranked() -> None:
    # All passes are below y: four of the sixteen, which lie in one row, give (4 + 1 / 2) / 5.
    below = np.arange(16.0)[:, None]
    assert pit(below, [20.0], seed=None, stratum=16)[0] == pytest.approx(0.9)
    # y lies above passes 0, 1 and 2 of the row: (3 + 1 / 2) / 5. Columns are not ranked.
    assert pit(below, [2.5], seed=None, stratum=16)[0] == pytest.approx(0.7)
    # Of two strata the first passes are: 0 and 16, one of them below y.
    assert pit(np.arange(32.0)[:, None], [5.0], seed=None, stratum=16)[0] == pytest.approx(0.5)
    # A single pass is a rank of its own: (1 + 1 / 2) / 2.
    assert pit([[0.0]], [1.0], seed=None, stratum=16)[0] == pytest.approx(0.75)


def test_both_ends_of_the_scale_are_values_of_a_pit() -> None:
    assert pit_uniformity_test([0.0, 0.5, 1.0]).n == 3
