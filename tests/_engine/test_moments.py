"""Streaming moments: those of all passes at once, and unbiased for the enumeration of masks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import jackknife
from mcdrop._engine.moments import Moments, accumulation_dtype
from mcdrop._masks.source import MaskSource, Span, effective_rate
from tests.oracles import TinyNet, exact_classification

CPU = torch.device("cpu")


def probs_of(
    net: TinyNet, x: Tensor, n_samples: int, n_runs: int, *, stratified: bool, batch: int = 0
) -> Tensor:
    """Probabilities (n_samples, n_runs, C) of the one row x, with the package's own masks."""
    hidden = torch.relu(net.first(x.double())).expand(n_runs, -1)
    source = MaskSource(1, CPU, stratified=stratified, n_samples=n_samples)
    keep = source.keep(net.drop.p, tuple(hidden.shape), 0, Span(batch, 0, n_samples))
    out: Tensor = net.last(hidden * keep / (1 - effective_rate(net.drop.p)))
    return out.detach().softmax(dim=2)


def moments_of(passes: Tensor, groups: PassGroups | None = None) -> Moments:
    moments = Moments(groups)
    moments.update(passes)
    return moments


@pytest.mark.parametrize("sizes", [[96], [1] * 96, [7, 50, 39], [3, 16, 2]])
@pytest.mark.parametrize("stratified", [False, True])
def test_chunks_change_nothing(sizes: list[int], stratified: bool) -> None:
    passes = torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(1)) + 3
    groups = PassGroups(sum(sizes), stratified=stratified)
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
    sizes, means, variances = moments_of(passes).without_each()
    numbers = torch.arange(40) % 16
    for group in range(16):
        left = passes[numbers != group]
        assert sizes[group] == 40 - len(left)
        torch.testing.assert_close(means[group], left.mean(dim=0))
        torch.testing.assert_close(variances[group], left.var(dim=0, correction=0))


@pytest.mark.parametrize(("units", "n_groups"), [(8, 16), (16, 8), (32, 4), (33, 4), (800, 4)])
def test_large_outputs_are_kept_in_fewer_groups_but_four_at_least(
    units: int, n_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As much memory as 16 groups of 8 units take, as long as the jackknife has four groups.
    monkeypatch.setattr("mcdrop._engine.moments._LARGE", 8)
    passes = torch.randn(40, units, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    sizes, means, _ = moments_of(passes).without_each()
    numbers = torch.arange(40) % n_groups
    assert len(sizes) == n_groups
    for group in range(n_groups):
        torch.testing.assert_close(means[group], passes[numbers != group].mean(dim=0))


def test_groups_of_stratified_passes_are_whole_strata() -> None:
    groups = PassGroups(100, stratified=True)
    member = groups.of(0, 100, 16).add(torch.zeros(0), torch.eye(100), 0)
    # 6 whole strata; the last 4 passes join the sixth.
    assert member[:6].sum(dim=1).tolist() == [16.0] * 5 + [20.0]
    assert member[5].nonzero().flatten().tolist() == list(range(80, 100))
    assert PassGroups(64, stratified=True).by_stratum
    assert not PassGroups(63, stratified=True).by_stratum
    assert PassGroups(None, stratified=True).by_stratum


@pytest.mark.parametrize("n_samples", [20, 80])
def test_rows_have_the_moments_of_their_passes(n_samples: int) -> None:
    passes = torch.randn(n_samples, 6, 2, generator=torch.Generator().manual_seed(5))
    groups = PassGroups(n_samples, stratified=True)
    rows = torch.tensor([4, 1])
    part, direct = moments_of(passes, groups).part(rows), moments_of(passes[:, rows], groups)
    for name in ("mean", "variance", "mean_error"):
        torch.testing.assert_close(getattr(part, name), getattr(direct, name))
    part.update(passes[:, rows])
    assert part.count == 2 * n_samples


@pytest.mark.parametrize(("n", "quantile"), [(3, 4.302653), (12, 2.200985)])
def test_jackknife_of_the_mean_is_the_error_of_the_mean(n: int, quantile: float) -> None:
    passes = torch.randn(n, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    moments = moments_of(passes)
    sizes, means, _ = moments.without_each()
    error = jackknife(moments.mean, means, sizes)
    # Groups of one pass: s / sqrt(n), times the quantile of t(n - 1) over 1.95996 (tables).
    expected = passes.std(dim=0) / n**0.5 * (quantile / 1.959964)
    torch.testing.assert_close(error, expected, rtol=1e-6, atol=0)


def test_two_passes_have_no_error_of_the_spread() -> None:
    moments = moments_of(torch.tensor([[1.0], [2.0]]))
    sizes, _, variances = moments.without_each()
    assert jackknife(variances.mean(dim=0), variances, sizes).isnan().all()


def test_moments_without_passes_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="no passes have been added"):
        _ = Moments().mean


def test_float32_where_there_is_no_float64() -> None:
    assert accumulation_dtype(CPU) == torch.float64
    assert accumulation_dtype(torch.device("mps")) == torch.float32


def z_and_relative_bias(found: Tensor, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    error = found.std(dim=0).numpy() / len(found) ** 0.5
    bias = found.mean(dim=0).numpy() - exact
    return np.abs(bias) / error, np.abs(bias) / exact


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n_samples", [7, 16, 20, 32, 64, 100])
@pytest.mark.parametrize("p", [0.25, 0.3])
def test_mean_and_variance_are_unbiased(stratified: bool, n_samples: int, p: float) -> None:
    net = TinyNet(3, 8, 3, p, seed=5).double()
    x = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)
    net.drop.p = effective_rate(p)
    exact = exact_classification(net, x)
    passes = probs_of(net, x, n_samples, 4000, stratified=stratified)
    moments = moments_of(passes, PassGroups(n_samples, stratified=stratified))
    for found, name in ((moments.mean, "probs"), (moments.variance, "probs_variance")):
        z, _ = z_and_relative_bias(found, exact[name][0])
        assert z.max() < 4, name


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 32, 64, 100])
@pytest.mark.parametrize("p", [1 / 64, 0.05, 0.1, 0.25, 0.3, 0.5])
def test_variance_over_stratified_passes_is_unbiased_in_many_repetitions(
    n_samples: int, p: float
) -> None:
    net = TinyNet(3, 10, 3, p, seed=5).double()
    x = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)
    net.drop.p = effective_rate(p)
    exact = exact_classification(net, x)["probs_variance"][0]
    groups = PassGroups(n_samples, stratified=True, rates=(p,))
    variances = [
        moments_of(probs_of(net, x, n_samples, 10_000, stratified=True, batch=batch), groups)
        for batch in range(10)
    ]
    z, bias = z_and_relative_bias(torch.cat([each.variance for each in variances]), exact)
    # Two standard errors for one comparison are three for the twelve made here.
    assert z.max() < 3, (bias, z)


@pytest.mark.parametrize("n_samples", [32, 48, 64])
@pytest.mark.parametrize("numerator", [3, 4, 13, 26, 40, 77, 128])
def test_variance_of_what_is_linear_in_the_masks_is_exact_on_average(
    numerator: int, n_samples: int
) -> None:
    # A rate of numerator / 256 has 16 p = fewest + extra / 16: sixteen places to begin.
    p = numerator / 256
    fewest, extra = divmod(numerator, 16)
    stratum = torch.arange(n_samples // 16)
    drops = fewest + ((torch.arange(16).unsqueeze(1) + stratum * extra) % 16 < extra).long()
    dropped = (torch.arange(16) < drops.unsqueeze(2)).flatten(1).double()
    moments = moments_of(dropped.T, PassGroups(n_samples, stratified=True, rates=(p,)))
    assert moments.variance.mean().item() == pytest.approx(p * (1 - p), rel=1e-12)
    of_mean = dropped.mean(dim=1).var(correction=0).item()
    assert moments.variance_of_mean.mean().item() == pytest.approx(of_mean, abs=1e-12)


@pytest.mark.parametrize("n_samples", [2, 3, 9, 16, 25, 31])
def test_passes_on_a_grid_are_compared_within_its_lines(n_samples: int) -> None:
    x = torch.rand(n_samples, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = [[t for t in range(n_samples) if t % 16 // 4 == i] for i in range(4)]
    lines = rows + [[t for t in range(n_samples) if t % 4 == i] for i in range(4)]
    pairs = [pair for line in lines for pair in combinations(line, 2)]
    triples = [triple for line in lines for triple in combinations(line, 3)]
    moments = moments_of(x, PassGroups(n_samples, stratified=True))
    expected = torch.stack([(x[s] - x[t]).square() / 2 for s, t in pairs]).mean(dim=0)
    torch.testing.assert_close(moments.variance, expected)
    plain = x.var(dim=0, correction=0)
    torch.testing.assert_close(moments.variance_of_mean, expected - plain)
    square, cube = moments.powers_of_mean()
    torch.testing.assert_close(square, torch.stack([x[s] * x[t] for s, t in pairs]).mean(dim=0))
    if triples:
        products = torch.stack([x[list(t)].prod(dim=0) for t in triples])
        torch.testing.assert_close(cube, products.mean(dim=0))
    else:
        # No third central moment: E[(p - m)^3] = cube - 3 m square + 2 m^3 = 0.
        mean = x.mean(dim=0)
        torch.testing.assert_close(cube - 3 * mean * square + 2 * mean**3, torch.zeros_like(mean))


def test_two_strata_give_the_variance_of_their_mean() -> None:
    offsets = torch.tensor([3.0, 1.0])
    moments = moments_of(
        offsets.repeat_interleave(16).unsqueeze(1), PassGroups(32, stratified=True)
    )
    # All spread lies between two strata: (3 - 1)^2 / 2 is their variance, half that of a mean.
    assert moments.variance.item() == pytest.approx(2.0)
    assert moments.variance_of_mean.item() == pytest.approx(1.0)
    # One degree of freedom is not enough for the error of the mean: it is that of independent
    # passes, sqrt(32 / 31 / 32), times t(31) = 2.0395 over 1.9600 (tables).
    assert moments.mean_error.item() == pytest.approx(31**-0.5 * 2.0395 / 1.96, rel=1e-4)


def test_share_that_is_not_linear_in_the_masks_is_one_for_independent_passes() -> None:
    passes = torch.randn(50, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    share = moments_of(passes).nonlinear_share
    torch.testing.assert_close(share, torch.ones_like(share))
    balanced = torch.tensor([1.0, -1.0]).repeat(32).unsqueeze(1)
    # Every stratum has the same mean: the smallest share there is.
    assert moments_of(balanced, PassGroups(64, stratified=True)).nonlinear_share.item() == 0.4
    # All spread lies between strata, more than between independent passes: the largest share.
    between = torch.tensor([3.0, 1.0, 2.0, -2.0]).repeat_interleave(16).unsqueeze(1)
    assert moments_of(between, PassGroups(64, stratified=True)).nonlinear_share.item() == 1.0


@pytest.mark.parametrize("n_samples", [32, 64])
def test_a_stratum_of_one_pass_tells_as_much_as_its_size(n_samples: int) -> None:
    # 16 passes of 0 and the first of the next stratum, 17: the mean is 1, the mean square about it
    # (16 * 1 + 16^2) / 17 = 16. Without the large stratum the mean is 17, without the small one 0.
    # Pseudovalues are 0 and 17; weighted by 1 / (h - 1) = 16 and 1/16 for h = 17/16 and 17, their
    # squares about the mean of 1 are 16 and 16: the squared error of the mean is 16.
    passes = torch.zeros(17, 1, dtype=torch.float64)
    passes[16] = 17
    moments = moments_of(passes, PassGroups(n_samples, stratified=True))
    assert moments.variance_of_mean.item() == pytest.approx(16)
    assert moments.variance.item() == pytest.approx(16 + 16)


@pytest.mark.parametrize("n_samples", [40, 100, 300])
def test_pairs_within_strata_are_told_from_others_of_their_group(n_samples: int) -> None:
    x = torch.randn(n_samples, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    groups = PassGroups(n_samples, stratified=True, rates=(0.1,))
    moments = moments_of(x.unsqueeze(1), groups)
    plain = moments_of(x.unsqueeze(1), PassGroups(n_samples, stratified=True))
    across = plain.variance.item()
    # Groups hold whole strata; where there are more than 16, two share one.
    strata = torch.arange(n_samples) // 16
    members = strata.clamp_max(n_samples // 16 - 1) % (2 if n_samples < 64 else 16)
    about_means = same = others = 0.0
    for group in members.unique():
        inside = members == group
        about_means += (x[inside] - x[inside].mean()).square().sum().item()
        alike = strata[inside].unsqueeze(0) == strata[inside].unsqueeze(1)
        same += (alike.sum().item() - len(alike)) / len(alike)
        others += (~alike).sum().item() / len(alike)
    within = (about_means - others * across) / same
    of_within, of_across = groups.correlations(n_samples)
    expected = across + of_across / (of_within - of_across) * (across - within)
    assert moments.variance.item() == pytest.approx(expected, rel=1e-9)


def test_one_stratum_of_an_unknown_number_has_the_variance_of_a_share() -> None:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moments = moments_of(x, PassGroups(None, stratified=True))
    assert torch.isfinite(moments.variance).all()
    # The mean of a stratum is taken to keep at most 0.4 of the variance of an independent one.
    assert (moments.variance_of_mean <= 0.4 * moments.variance / 16 * (1 + 1e-9)).all()
