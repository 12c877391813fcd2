"""Bounds on rare passes: derived by hand, and against passes whose tails are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mcdrop._masks.source import MaskSource, Span
from mcdrop._tasks.tails import Missed, Tails, _normal_tail, _variance_widening, never_dropped

Q = -math.log(0.05)


def tails_of(passes: torch.Tensor, *, probabilities: bool = False) -> Tails:
    tails = Tails(probabilities=probabilities)
    tails.update(passes)
    return tails


def test_passes_not_drawn_lie_at_the_extreme_with_three_over_s() -> None:
    passes = torch.tensor([0.0, 0.0, 0.0, 4.0] * 25, dtype=torch.float64).unsqueeze(1)
    missed = tails_of(passes).missed(passes.mean(dim=0))
    # Mean 1, so the extreme is 3 away: the shift is 3 q, the variance grows by 9 q.
    assert missed.mean.item() == pytest.approx(3 * Q / 100)
    assert missed.variance.item() == pytest.approx(9 * Q / 100)
    assert missed.divergence is None


def test_probability_of_never_drawing_is_at_most_five_percent() -> None:
    for count in (16, 100, 10_000):
        # (1 - q)^S <= exp(-q S) = 0.05.
        assert (1 - Q / count) ** count <= 0.05
    # Fewer than six passes leave at most half of the probability unseen.
    passes = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    assert tails_of(passes).missed(passes.mean(dim=0)).mean.item() == pytest.approx(0.5)


def test_identical_passes_miss_nothing() -> None:
    passes = torch.full((20, 3, 2), 0.5, dtype=torch.float64)
    missed = tails_of(passes, probabilities=True).missed(passes.mean(dim=0))
    assert missed.divergence is not None
    for value in (missed.mean, missed.variance, missed.divergence):
        assert value.abs().max() < 1e-12


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 53]])
def test_chunks_and_rows_change_nothing(sizes: list[int]) -> None:
    logits = torch.randn(60, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    passes = logits.softmax(dim=2)
    tails = Tails(probabilities=True)
    for chunk in passes.split(sizes):
        tails.update(chunk)
    rows = torch.tensor([3, 1])
    mean = passes.mean(dim=0)[rows]
    found, whole = tails.part(rows).missed(mean), tails_of(passes[:, rows], probabilities=True)
    expected = whole.missed(mean)
    for name in ("mean", "variance", "divergence"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_many_means_are_looked_at_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = torch.rand(20, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tails, mean = tails_of(passes, probabilities=True), passes.mean(dim=0)
    whole = tails.missed(mean)
    monkeypatch.setattr("mcdrop._tasks.tails._TILE", 4)
    tiled = tails.missed(mean)
    for name in ("mean", "variance", "divergence"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name))


@pytest.mark.parametrize("n_samples", [1, 2, 20, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_from_distances_are_the_same(n_samples: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    center = torch.linspace(-12, 12, 60, dtype=torch.float64).view(20, 3)
    spread = torch.logspace(-2, 0.5, 20, dtype=torch.float64).unsqueeze(1)
    logits = center + spread * torch.randn(n_samples, 20, 3, generator=generator).double()
    passes, others = logits.sigmoid(), (-logits).sigmoid()
    expected = tails_of(passes, probabilities=True).missed(passes.mean(dim=0))
    # Where p is near 1, 1 - p is looked at.
    sign = torch.where(center > 0, -1, 1).to(dtype)
    small = torch.where(center > 0, others, passes).to(dtype)
    tails, least = Tails(probabilities=True), torch.where(sign > 0, 1e-12, 1e-7).to(dtype)
    tails.update(small, least)
    found = tails.missed_beside(small.mean(dim=0), passes.mean(dim=0).to(dtype), sign)
    rtol = 2e-3 if dtype == torch.float32 else 1e-5
    for name in ("mean", "variance", "divergence"):
        value, whole = getattr(found, name).double(), getattr(expected, name)
        torch.testing.assert_close(value, whole, rtol=rtol, atol=1e-15)


@pytest.mark.parametrize("count", [16, 100, 1000])
def test_weighted_points_integrate_over_the_tail(count: int) -> None:
    q = Q / count
    start = stats.norm.isf(q)
    weights, places = _normal_tail(count)
    assert weights.sum() == pytest.approx(q)
    # E[exp(x); x > start], a lognormal tail, by adaptive quadrature and by five points.
    exact, _ = integrate.quad(lambda x: math.exp(x) * stats.norm.pdf(x), start, 12)
    assert weights @ np.exp(places) == pytest.approx(exact, rel=0.01)


def test_variance_is_widened_to_its_upper_confidence_limit() -> None:
    # 95 % of normal samples of 16 have a sum of squares above chi2_{15, 0.05} = 7.26094 (tables).
    assert _variance_widening(16) == pytest.approx(16 / 7.26094, rel=1e-5)
    for count in (2, 3, 100, 10_000):
        expected = count / stats.chi2.ppf(0.05, count - 1)
        assert _variance_widening(count) == pytest.approx(expected, rel=1e-9)


def test_few_passes_of_a_lognormal_probability_do_not_hide_its_spread() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(-8, 2, size=(16, 2000, 1)))
    passes = torch.sigmoid(z)
    mean = passes.mean(dim=0)
    variance = passes.var(dim=0)
    missed = tails_of(passes, probabilities=True).missed(mean)
    density = stats.norm(-8, 2).pdf
    exact = [
        integrate.quad(lambda u, k=k: (1 / (1 + math.exp(-u))) ** k * density(u), -20, 6)[0]
        for k in (1, 2)
    ]
    true_variance = exact[1] - exact[0] ** 2
    # The sample variance misses the tail in almost every run; the bound covers it.
    assert (variance < true_variance).double().mean() > 0.85
    assert (variance + missed.variance > true_variance).double().mean() > 0.9
    assert (mean + missed.mean > exact[0]).double().mean() > 0.9


def test_bounds_vanish_with_many_passes() -> None:
    z = torch.randn(40_000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    passes = torch.sigmoid(z)
    mean, std = passes.mean(dim=0), passes.std(dim=0)
    missed = tails_of(passes, probabilities=True).missed(mean)
    # Below the standard errors of independent passes: std / sqrt(S), and std / sqrt(2 S) at least.
    assert missed.mean.item() < 0.2 * std.item() / 200
    assert missed.variance.item() < 2 * std.item() ** 2 / math.sqrt(2 * 40_000)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n_samples", [10, 16, 32, 100])
@pytest.mark.parametrize("p", [0.01, 0.02, 0.98])
def test_chance_that_a_unit_is_never_dropped(p: float, n_samples: int, stratified: bool) -> None:
    source = MaskSource(1, torch.device("cpu"), stratified=stratified)
    keep = source.keep(p, (50_000,), 0, Span(0, 0, n_samples))
    never = (keep if p < 0.5 else ~keep).all(dim=0).double().mean().item()
    chance = never_dropped(p, n_samples, stratified=stratified)
    assert abs(never - chance) <= 4 * math.sqrt(chance * (1 - chance) / 50_000) + 1e-9


def test_the_larger_of_two_bounds_is_taken_for_each_quantity() -> None:
    one, two = torch.ones(2), torch.tensor([2.0, 0.0])
    found = Missed(one, two, one).or_more(Missed(two, one, two))
    larger = torch.tensor([2.0, 1.0])
    assert torch.equal(found.mean, larger)
    assert torch.equal(found.variance, larger)
    assert found.divergence is not None
    assert torch.equal(found.divergence, larger)
    assert Missed(one, two, None).or_more(Missed(two, one, two)).divergence is None


def test_bounds_are_taken_where_they_are_wanted() -> None:
    ones = torch.ones(2, 3)
    wanted = torch.tensor([[True, False, True], [False, False, True]])
    found = Missed(ones, 2 * ones, 3 * ones).where(wanted)
    assert torch.equal(found.mean, wanted.float())
    assert torch.equal(found.variance, 2.0 * wanted)
    assert found.divergence is not None
    assert torch.equal(found.divergence, 3.0 * wanted)
    assert Missed(ones, ones, None).where(wanted).divergence is None
