"""The mixture of normals, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from mcdrop.prediction.mixture import (
    empirical_quantile,
    mixture_log_prob,
    mixture_quantile,
    normal_distribution,
)

RNG = np.random.default_rng(0)
MEANS = torch.from_numpy(RNG.normal(size=(6, 4)))
STDS = torch.from_numpy(RNG.uniform(0.2, 2, size=(6, 4)))


def test_log_density_is_the_log_of_the_average() -> None:
    y = torch.from_numpy(RNG.normal(size=4))
    density = stats.norm.pdf(y.numpy(), MEANS.numpy(), STDS.numpy()).mean(axis=0)
    np.testing.assert_allclose(mixture_log_prob(MEANS, STDS, y), np.log(density), rtol=1e-12)


def test_log_density_far_out_does_not_underflow() -> None:
    # One component dominates: log N(0; 1e3, 1) - log 2, where the density itself rounds to 0.
    means, stds = torch.tensor([[1e3], [2e3]]).double(), torch.ones(2, 1).double()
    found = mixture_log_prob(means, stds, torch.zeros(1).double()).item()
    assert found == pytest.approx(stats.norm.logpdf(1e3) - np.log(2), rel=1e-12)


@given(st.floats(0.001, 0.999), st.integers(0, 10**6))
@example(0.857421875, 389)  # Newton steps alone run in a circle
def test_quantile_inverts_the_distribution_function(q: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = torch.from_numpy(rng.normal(size=(5, 3)) * 10 ** rng.uniform(-2, 2))
    stds = torch.from_numpy(rng.uniform(0.05, 2, size=(5, 3)))
    found = mixture_quantile(means, stds, q)
    share = np.mean(stats.norm.cdf(found.numpy(), means.numpy(), stds.numpy()), axis=0)
    np.testing.assert_allclose(share, q, atol=1e-9)


def test_quantiles_are_found_between_separated_components() -> None:
    # Newton steps alone run in a circle in about one row of 10,000 here.
    rng = np.random.default_rng(0)
    means = torch.from_numpy(rng.normal(size=(5, 20_000)))
    stds = torch.from_numpy(0.3 * np.exp(0.5 * rng.normal(size=means.shape)))
    for q in (0.05, 0.25, 0.86):
        z = (mixture_quantile(means, stds, q) - means) / stds
        assert float((normal_distribution(z).mean(dim=0) - q).abs().max()) < 1e-9


@pytest.mark.parametrize("q", [0.0001, 0.25, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("passes", [1, 2, 7])
def test_empirical_quantile_is_numpys(q: float, passes: int) -> None:
    samples = torch.from_numpy(RNG.normal(size=(passes, 3)))
    found = empirical_quantile(samples, q)
    np.testing.assert_allclose(found, np.quantile(samples.numpy(), q, axis=0), rtol=1e-12)


def test_quantile_keeps_its_digits_at_levels_next_to_zero() -> None:
    # Far below both components the nearer one alone counts: 2 q = Phi((x - 0) / 1).
    means, stds = torch.tensor([[0.0], [50.0]]).double(), torch.ones(2, 1).double()
    for q in (1e-14, 1e-80):
        found = mixture_quantile(means, stds, q).item()
        assert found == pytest.approx(stats.norm.ppf(2 * q), rel=1e-9)


def test_distribution_function_is_scipys_in_both_tails() -> None:
    z = np.linspace(-37, 9, 200)
    found = normal_distribution(torch.from_numpy(z))
    np.testing.assert_allclose(found, stats.norm.cdf(z), rtol=1e-12)
