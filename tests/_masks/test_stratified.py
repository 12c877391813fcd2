"""Stratified masks: exact counts in every stratum, and otherwise as random as independent ones."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks.device_kernels import kept, picks_and_starts
from mcdrop._masks.source import MaskSource, Span, effective_rate
from mcdrop._masks.stratified import (
    STRATUM,
    PatternPart,
    _signed,
    _table,
    _tables,
    drop_patterns,
    kept_passes,
)
from mcdrop._masks.streams import Streams

CPU = torch.device("cpu")
RATES = (0.003, 0.05, 0.1, 0.25, 0.3, 0.5, 0.9, 0.995)


def dropped(p: float, shape: tuple[int, ...], n: int, seed: int = 1, site: int = 0) -> np.ndarray:
    source = MaskSource(seed, CPU, stratified=True)
    return ~source.keep(p, shape, site, Span(0, 0, n)).numpy()


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("numel", [50, 9000])
def test_every_stratum_and_every_cycle_drops_a_unit_as_often_as_its_rate_says(
    p: float, numel: int
) -> None:
    drops = dropped(p, (numel,), 128)
    rate = effective_rate(p)
    for length in (16, 32, 64):
        counts = drops.reshape(-1, length, numel).sum(axis=1)
        allowed = {int(np.floor(rate * length)), int(np.ceil(rate * length))}
        assert set(np.unique(counts)) <= allowed, length


@pytest.mark.parametrize("p", RATES)
def test_every_pass_has_the_exact_rate(p: float) -> None:
    drops = dropped(p, (1000, 1000), 16)
    rate = effective_rate(p)
    assert abs(rate - p) <= 2**-17
    # Units are independent of one another, so one pass is a binomial draw.
    z = (drops.sum(axis=(1, 2)) - 1e6 * rate) / np.sqrt(1e6 * rate * (1 - rate))
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("count", range(17))
def test_patterns_of_a_table_are_balanced(count: int) -> None:
    table = _table(count).view(np.uint16)
    bits = ((table[:, None] >> np.arange(STRATUM)) & 1).astype(float)
    assert len(table) == 2**16
    assert set(bits.sum(axis=1)) == {count}
    np.testing.assert_array_equal(bits.mean(axis=0), count / STRATUM)
    pairs = (bits.T @ bits / len(table))[~np.eye(STRATUM, dtype=bool)]
    expected = count * (count - 1) / (STRATUM * (STRATUM - 1))
    np.testing.assert_allclose(pairs, expected, atol=6e-4)


@pytest.mark.parametrize("p", RATES)
def test_passes_of_a_stratum_have_the_stated_correlation(p: float) -> None:
    drops = dropped(p, (40_000,), 16).astype(float)
    rate = effective_rate(p)
    extra = 16 * rate % 1
    rho = -1 / 15 + extra * (1 - extra) / (240 * rate * (1 - rate))
    centered = drops - rate
    # Mean product over ordered pairs of different passes, one value per unit.
    pairs = (centered.sum(axis=0) ** 2 - (centered**2).sum(axis=0)) / (16 * 15)
    error = pairs.std() / np.sqrt(len(pairs))
    assert abs(pairs.mean() - rho * rate * (1 - rate)) <= 4 * error + 1e-12


def test_units_and_rows_are_independent() -> None:
    drops = dropped(0.3, (64, 64), 64)
    # One pass of each stratum: passes of one stratum are not independent.
    one = drops[::16]
    for one_side, other_side in ((one[:, :, :-1], one[:, :, 1:]), (one[:, :-1], one[:, 1:])):
        a, b = one_side.ravel(), other_side.ravel()
        table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_cycles_sites_batches_and_seeds_are_independent() -> None:
    source = MaskSource(1, CPU, stratified=True)

    def one(seed: int, batch: int, site: int) -> np.ndarray:
        source = MaskSource(seed, CPU, stratified=True)
        return source.keep(0.3, (4096,), site, Span(batch, 0, 64)).numpy()

    first = source.keep(0.3, (4096,), 0, Span(0, 0, 128)).numpy().copy()
    others = [first[64:], one(2, 0, 0), one(1, 1, 0), one(1, 0, 1)]
    for other in others:
        correlation = np.corrcoef(first[:64].ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(first[:64].size)
        # Also the number of drops in a stratum, which the rate leaves open.
        counts = [x.reshape(4, 16, -1).sum(axis=1).ravel() for x in (first[:64], other)]
        assert abs(np.corrcoef(*counts)[0, 1]) < 4 / np.sqrt(counts[0].size)


@pytest.mark.parametrize(("p", "numel"), [(0.3, 17), (0.1, 20_000), (0.01, 3000)])
def test_masks_do_not_depend_on_how_passes_are_grouped(p: float, numel: int) -> None:
    whole = MaskSource(5, CPU, stratified=True).keep(p, (numel,), 2, Span(1, 0, 150)).clone()
    for cuts in ([0, 1, 2, 3, 150], [0, 16, 64, 128, 150], [0, 50, 100, 150], range(151)):
        source = MaskSource(5, CPU, stratified=True)
        for first, end in pairwise(cuts):
            part = source.keep(p, (numel,), 2, Span(1, first, end - first))
            assert torch.equal(part, whole[first:end])


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("numel", [50, 70_000])
def test_torch_and_numpy_make_the_same_of_the_same_bits(
    p: float, numel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = 16 if 2**-6 <= p <= 1 - 2**-6 else 32
    rate = (round(p * 2**bits), bits)
    # A device lays rows inside strata, and draws both integers at once: not so here.
    part = PatternPart(range(128, 256, 128), range(192, 256), 1, numel)
    by_numpy = drop_patterns(Streams(3, CPU), rate, part, (0, 1))
    apart = partial(picks_and_starts, together=False)
    monkeypatch.setattr(
        "mcdrop._masks.stratified.picks_and_starts", lambda *given, **_: apart(*given)
    )
    monkeypatch.setattr(Streams, "on_cpu", False)
    by_torch = drop_patterns(Streams(3, CPU), rate, part, (0, 1))
    assert torch.equal(by_torch, by_numpy)
    mask = torch.empty((7, numel), dtype=torch.bool)
    kept_passes(by_numpy.flatten(1).numpy(), 5, mask.numpy())
    assert torch.equal(kept(by_numpy.flatten(1), range(5, 12)), mask)


def test_tables_made_in_inference_mode_may_be_used_outside_of_it() -> None:
    # They are kept for all predictions, whatever mode the first of them ran in.
    for make in (_tables, _signed):
        make.cache_clear()
        with torch.inference_mode():
            assert not make(3, CPU).is_inference()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_masks_on_a_device_are_balanced_too() -> None:
    source = MaskSource(5, torch.device("cuda"), stratified=True)
    keep = source.keep(0.3, (999,), 2, Span(1, 0, 64))
    assert torch.equal(source.keep(0.3, (999,), 2, Span(1, 20, 10)), keep[20:30])
    counts = (~keep).view(4, 16, 999).sum(dim=1)
    assert set(counts.unique().tolist()) == {4, 5}
