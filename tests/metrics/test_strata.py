"""Scores of stratified passes, against pairs taken one by one and the enumeration of all masks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks.pairs import pair_correlations
from mcdrop._masks.source import MaskSource, Span, effective_rate
from mcdrop.errors import RangeError
from mcdrop.metrics import crps_ensemble, pit
from tests.oracles import TinyNet, every_mask

CPU = torch.device("cpu")
X = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)


def net_of(p: float) -> TinyNet:
    net = TinyNet(3, 10, 1, p, seed=5).double()
    net.drop.p = effective_rate(p)
    return net


def outputs(net: TinyNet, n_samples: int, n_runs: int, batch: int) -> torch.Tensor:
    """Outputs (n_samples, n_runs), not linear in the masks, with the package's own masks."""
    hidden = torch.relu(net.first(X)).expand(n_runs, -1)
    source = MaskSource(1, CPU, stratified=True, n_samples=n_samples)
    keep = source.keep(net.drop.p, tuple(hidden.shape), 0, Span(batch, 0, n_samples))
    return torch.tanh(net.last(hidden * keep / (1 - net.drop.p)) / 4).detach().squeeze(2)


def exact_distribution(net: TinyNet) -> tuple[np.ndarray, np.ndarray]:
    """Values of all masks and their probabilities, sorted by value."""
    pairs = [(np.tanh(out[0, 0] / 4), probability) for probability, out in every_mask(net, X)]
    values, weights = np.array(sorted(pairs)).T
    return values, weights


def exact_crps(net: TinyNet, y: float) -> float:
    values, weights = exact_distribution(net)
    spread = weights @ np.abs(values[:, None] - values) @ weights
    return float(weights @ np.abs(values - y) - spread / 2)


def test_pairs_of_different_strata_one_by_one() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    y = np.array([0.3, -1.0, 2.0])
    pairs = [(s, t) for s, t in combinations(range(10), 2) if s // 4 != t // 4]
    half_spread = np.mean([np.abs(x[s] - x[t]) for s, t in pairs], axis=0) / 2
    expected = np.abs(x - y).mean(axis=0) - half_spread
    np.testing.assert_allclose(crps_ensemble(x, y, stratum=4), expected, rtol=1e-12)


@pytest.mark.parametrize("n_samples", [2, 5, 16, 21])
def test_fewer_than_two_strata_are_scored_within_the_lines_of_their_grid(n_samples: int) -> None:
    x = np.random.default_rng(0).normal(size=(n_samples, 3))
    y = np.array([0.3, -1.0, 2.0])
    rows = [[t for t in range(n_samples) if t % 16 // 4 == i] for i in range(4)]
    columns = [[t for t in range(n_samples) if t % 4 == i] for i in range(4)]
    pairs = [pair for line in rows + columns for pair in combinations(line, 2)]
    half_spread = np.mean([np.abs(x[s] - x[t]) for s, t in pairs], axis=0) / 2
    expected = np.abs(x - y).mean(axis=0) - half_spread
    np.testing.assert_allclose(crps_ensemble(x, y, stratum=16), expected, rtol=1e-12)
    # The rate says nothing more about passes that are independent.
    np.testing.assert_array_equal(
        crps_ensemble(x, y, stratum=16, p=0.1), crps_ensemble(x, y, stratum=16)
    )


def test_pairs_of_strata_that_share_a_cycle_are_extrapolated_to_correlation_zero() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.zeros(2)
    within: list[np.ndarray] = []
    across: list[np.ndarray] = []
    for s, t in combinations(range(40), 2):
        (within if s // 16 == t // 16 else across).append(np.abs(x[s] - x[t]))
    low, high = pair_correlations(0.1, 40)
    # The line through (low, mean within) and (high, mean across), at 0.
    line = np.polyfit([low, high], [np.mean(within, axis=0), np.mean(across, axis=0)], 1)
    expected = np.abs(x).mean(axis=0) - line[1] / 2
    np.testing.assert_allclose(crps_ensemble(x, y, stratum=16, p=0.1), expected, rtol=1e-10)


def test_one_pass_has_a_rank() -> None:
    assert pit(np.zeros((1, 2)), np.array([-1.0, 1.0]), seed=None, stratum=16).tolist() == [
        0.25,
        0.75,
    ]


def test_ranks_are_among_the_first_row_of_the_grid() -> None:
    x = np.random.default_rng(0).normal(size=(18, 3))
    y = np.zeros(3)
    np.testing.assert_array_equal(
        pit(x, y, stratum=16), pit(x[[0, 1, 2, 3, 16, 17]], y, stratum=None)
    )


def test_energy_form_scores_the_passes_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(32, 3))
    y = np.zeros(3)
    np.testing.assert_array_equal(
        crps_ensemble(x, y, estimator="energy", stratum=16), crps_ensemble(x, y, estimator="energy")
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 32, 64, 100])
@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.3, 0.5])
def test_fair_crps_is_unbiased_for_stratified_passes(p: float, n_samples: int) -> None:
    net, y = net_of(p), 0.2
    exact = exact_crps(net, y)
    plain, corrected = [], []
    for batch in range(10):
        passes = outputs(net, n_samples, 10_000, batch)
        target = torch.full((10_000,), y, dtype=torch.float64)
        plain.append(crps_ensemble(passes, target))
        corrected.append(crps_ensemble(passes, target, stratum=16, p=p))
    found = torch.cat([torch.as_tensor(each) for each in corrected])
    before = torch.cat([torch.as_tensor(each) for each in plain])
    error = float(found.std()) / len(found) ** 0.5
    bias, bias_before = float(found.mean()) - exact, float(before.mean()) - exact
    assert bias_before < -5 * error
    # Two standard errors for one comparison are three for the twenty made here.
    assert abs(bias) < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("n_samples", [16, 64])
def test_pit_of_stratified_passes_is_uniform(n_samples: int, p: float) -> None:
    net = net_of(p)
    values, weights = exact_distribution(net)
    rng = np.random.default_rng(0)
    y = rng.choice(values, p=weights / weights.sum(), size=100_000)
    # Equal outputs are ties whatever the order of summation.
    passes, y = outputs(net, n_samples, 100_000, 0).round(decimals=9), y.round(9)
    uniform = np.asarray(pit(passes, y, stratum=16, seed=1))
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    # Ranks among all passes are too central.
    assert 12 * np.asarray(pit(passes, y, seed=1)).var() < 1 - (0.02 if n_samples == 16 else 0.004)


def test_a_stratum_of_one_pass_is_refused() -> None:
    x, y = np.zeros((4, 2)), np.zeros(2)
    text = r"expected `stratum` to be an integer of at least 2, but got 1\. Pass 16 for passes of"
    with pytest.raises(RangeError, match="crps_ensemble: " + text):
        crps_ensemble(x, y, stratum=1)
    with pytest.raises(RangeError, match="pit: " + text):
        pit(x, y, stratum=1)


def test_a_stratum_without_independent_passes_is_refused() -> None:
    x, y = np.zeros((4, 2)), np.zeros(2)
    text = r"expected `stratum` to be 16, or less than the number of passes, 4, but got 4\. Pass 16"
    with pytest.raises(RangeError, match="crps_ensemble: " + text):
        crps_ensemble(x, y, stratum=4)
    with pytest.raises(RangeError, match="pit: " + text):
        pit(x, y, stratum=4)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
def test_a_rate_that_is_no_probability_is_refused(p: float) -> None:
    text = r"expected `p` to lie in \(0, 1\), but got .*\. Pass the rate of the dropout layers"
    with pytest.raises(RangeError, match="crps_ensemble: " + text):
        crps_ensemble(np.zeros((32, 2)), np.zeros(2), stratum=16, p=p)


def test_a_stratum_of_two_passes_has_pairs() -> None:
    samples, y = np.array([[0.0], [1.0], [3.0], [6.0]]), np.array([2.0])
    # |x - y| is 2, 1, 1, 4; pairs across are 3, 6, 2, 5 apart.
    found = crps_ensemble(samples, y, stratum=2)
    assert found == pytest.approx([2 - 4 / 2])
