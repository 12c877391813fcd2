"""Scores of stratified passes, against pairs taken one by one and the enumeration of all masks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

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
    source = MaskSource(1, CPU, stratified=True)
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


def test_energy_form_scores_the_passes_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(32, 3))
    y = np.zeros(3)
    np.testing.assert_array_equal(
        crps_ensemble(x, y, estimator="energy", stratum=16), crps_ensemble(x, y, estimator="energy")
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 32, 64, 100])
@pytest.mark.parametrize("p", [0.25, 0.5])
def test_fair_crps_is_unbiased_for_stratified_passes(p: float, n_samples: int) -> None:
    net, y = net_of(p), 0.2
    exact = exact_crps(net, y)
    plain, corrected = [], []
    for batch in range(10):
        passes = outputs(net, n_samples, 10_000, batch)
        target = torch.full((10_000,), y, dtype=torch.float64)
        plain.append(crps_ensemble(passes, target))
        corrected.append(crps_ensemble(passes, target, stratum=16))
    found = torch.cat([torch.as_tensor(each) for each in corrected])
    before = torch.cat([torch.as_tensor(each) for each in plain])
    error = float(found.std()) / len(found) ** 0.5
    bias, bias_before = float(found.mean()) - exact, float(before.mean()) - exact
    assert bias_before < -10 * error
    # One stratum cannot show its own correlation: for these outputs, which pile up at two ends,
    # half of the bias remains. From two strata on there is none. Two standard errors for one
    # comparison are three for the six made here.
    assert abs(bias) < (0.55 * abs(bias_before) if n_samples == 16 else 3 * error)


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 64])
def test_pit_of_stratified_passes_is_uniform(n_samples: int) -> None:
    net = net_of(0.5)
    values, weights = exact_distribution(net)
    rng = np.random.default_rng(0)
    y = rng.choice(values, p=weights / weights.sum(), size=100_000)
    # Equal outputs are ties whatever the order of summation.
    passes, y = outputs(net, n_samples, 100_000, 0).round(decimals=9), y.round(9)
    uniform = np.asarray(pit(passes, y, stratum=16, seed=1))
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    # Ranks among all passes are too central.
    assert 12 * np.asarray(pit(passes, y, seed=1)).var() < 1 - (0.03 if n_samples == 16 else 0.005)


def test_a_stratum_of_one_pass_is_refused() -> None:
    x, y = np.zeros((4, 2)), np.zeros(2)
    text = r"expected `stratum` to be at least 2, but got 1\. Pass 16 for passes of stratified"
    with pytest.raises(RangeError, match="crps_ensemble: " + text):
        crps_ensemble(x, y, stratum=1)
    with pytest.raises(RangeError, match="pit: " + text):
        pit(x, y, stratum=1)
