"""Streaming moments: those of all passes at once, and unbiased for the enumeration of masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop._engine.moments import Moments, PassGroups, accumulation_dtype, jackknife
from mcdrop._masks.source import MaskSource, Span, effective_rate
from tests.oracles import TinyNet, exact_classification

CPU = torch.device("cpu")


def probs_of(net: TinyNet, x: Tensor, n_samples: int, n_runs: int, *, stratified: bool) -> Tensor:
    """Probabilities (n_samples, n_runs, C) of the one row x, with the package's own masks."""
    hidden = torch.relu(net.first(x.double())).expand(n_runs, -1)
    source = MaskSource(1, CPU, stratified=stratified)
    keep = source.keep(net.drop.p, tuple(hidden.shape), 0, Span(0, 0, n_samples))
    out: Tensor = net.last(hidden * keep / (1 - effective_rate(net.drop.p)))
    return out.detach().softmax(dim=2)


def moments_of(passes: Tensor, groups: PassGroups | None = None) -> Moments:
    moments = Moments(groups)
    moments.update(passes)
    return moments


@pytest.mark.parametrize("sizes", [[96], [1] * 96, [7, 50, 39]])
@pytest.mark.parametrize("stratified", [False, True])
def test_chunks_change_nothing(sizes: list[int], stratified: bool) -> None:
    passes = torch.randn(96, 5, generator=torch.Generator().manual_seed(1)) + 3
    groups = PassGroups(96, stratified=stratified)
    moments = Moments(groups)
    for chunk in passes.split(sizes):
        moments.update(chunk)
    whole = moments_of(passes, groups)
    for name in ("mean", "variance", "mean_error", "variance_of_mean"):
        torch.testing.assert_close(getattr(moments, name), getattr(whole, name))


def test_independent_passes_have_the_textbook_moments() -> None:
    passes = torch.randn(50, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moments = moments_of(passes)
    torch.testing.assert_close(moments.mean, passes.mean(dim=0))
    torch.testing.assert_close(moments.variance, passes.var(dim=0))
    torch.testing.assert_close(moments.variance_of_mean, passes.var(dim=0) / 50)


def test_a_small_spread_about_a_large_mean_keeps_its_digits() -> None:
    passes = torch.randn(64, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shifted = moments_of(1e6 + 1e-3 * passes)
    # float64 resolves 1e6 to 1.2e-10, so a spread of 1e-3 keeps 7 digits; E[x^2] - E[x]^2 has none.
    torch.testing.assert_close(shifted.variance, 1e-6 * passes.var(dim=0), rtol=1e-5, atol=0)


def test_means_and_variances_without_each_group() -> None:
    passes = torch.randn(40, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    counts, means, variances = moments_of(passes).without_each()
    numbers = torch.arange(40) % 16
    for group in range(16):
        left = passes[numbers != group]
        assert counts[group] == len(left)
        torch.testing.assert_close(means[group], left.mean(dim=0))
        torch.testing.assert_close(variances[group], left.var(dim=0, correction=0))


def test_groups_of_stratified_passes_are_whole_strata() -> None:
    groups = PassGroups(100, stratified=True)
    member = groups.of(0, 100, 16, torch.zeros(1))
    # 6 whole strata; the last 4 passes join the sixth.
    assert member.sum(dim=1).tolist() == [16.0] * 5 + [20.0] + [0.0] * 10
    assert member[5].nonzero().flatten().tolist() == list(range(80, 100))
    assert not PassGroups(48, stratified=True).by_stratum
    assert PassGroups(None, stratified=True).by_stratum


def test_rows_have_the_moments_of_their_passes() -> None:
    passes = torch.randn(80, 6, 2, generator=torch.Generator().manual_seed(5))
    groups = PassGroups(80, stratified=True)
    rows = torch.tensor([4, 1])
    part, direct = moments_of(passes, groups).rows(rows), moments_of(passes[:, rows], groups)
    for name in ("mean", "variance", "mean_error"):
        torch.testing.assert_close(getattr(part, name), getattr(direct, name))
    part.update(passes[:, rows])
    assert part.count == 160


def test_jackknife_of_the_mean_is_the_error_of_the_mean() -> None:
    passes = torch.randn(12, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    moments = moments_of(passes)
    counts, means, _ = moments.without_each()
    error = jackknife(moments.mean, means, counts, 12)
    # Twelve groups of one pass: s / sqrt(12), times t(11) = 2.20099 over 1.95996 (tables).
    expected = passes.std(dim=0) / 12**0.5 * (2.200985 / 1.959964)
    torch.testing.assert_close(error, expected, rtol=1e-6, atol=0)


def test_two_passes_have_no_error_of_the_spread() -> None:
    moments = moments_of(torch.tensor([[1.0], [2.0]]))
    counts, _, variances = moments.without_each()
    assert jackknife(variances.mean(dim=0), variances, counts, 2).isnan().all()


def test_moments_without_passes_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="no passes have been added"):
        _ = Moments().mean


def test_float32_where_there_is_no_float64() -> None:
    assert accumulation_dtype(CPU) == torch.float64
    assert accumulation_dtype(torch.device("mps")) == torch.float32


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n_samples", [64, 100])
@pytest.mark.parametrize("p", [0.25, 0.3])
def test_mean_and_variance_are_unbiased(stratified: bool, n_samples: int, p: float) -> None:
    net = TinyNet(3, 8, 3, p, seed=5).double()
    x = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)
    net.drop.p = effective_rate(p)
    exact = exact_classification(net, x)
    runs = 4000
    passes = probs_of(net, x, n_samples, runs, stratified=stratified)
    moments = moments_of(passes, PassGroups(n_samples, stratified=stratified))
    for found, name in ((moments.mean, "probs"), (moments.variance, "probs_variance")):
        error = found.std(dim=0).numpy() / runs**0.5
        z = (found.mean(dim=0).numpy() - exact[name][0]) / error
        assert np.abs(z).max() < 4, name
