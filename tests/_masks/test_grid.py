"""Masks of fewer than 32 stratified passes, and which of these are independent."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks.grid import grid_patterns, independent_sets, on_grid
from mcdrop._masks.grid_law import alias_table
from mcdrop._masks.rows import RowDim
from mcdrop._masks.source import MaskSource, Span
from mcdrop._masks.streams import Key, Streams

CPU = torch.device("cpu")


def dropped(p: float, n_samples: int, units: int, seed: int = 1) -> np.ndarray:
    source = MaskSource(seed, CPU, stratified=True, n_samples=n_samples)
    return ~source.keep(p, (units,), 0, Span(0, 0, n_samples)).numpy()


def test_rows_and_columns_are_independent_sets() -> None:
    assert independent_sets(1) == ()
    assert independent_sets(2) == ((0, 1),)
    assert independent_sets(6) == ((0, 1, 2, 3), (4, 5), (0, 4), (1, 5))
    rows, columns = independent_sets(16)[:4], independent_sets(16)[4:]
    assert rows == tuple(tuple(range(i, i + 4)) for i in (0, 4, 8, 12))
    assert columns == tuple(tuple(range(i, 16, 4)) for i in range(4))
    # The second grid's lines join those of the first.
    assert independent_sets(18)[0] == (0, 1, 2, 3, 16, 17)
    assert independent_sets(18)[5] == (1, 5, 9, 13, 17)


def test_two_strata_need_no_grid() -> None:
    assert on_grid(31, stratified=True)
    assert not on_grid(32, stratified=True)
    assert not on_grid(None, stratified=True)
    assert not on_grid(16, stratified=False)


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_pairs_of_passes_are_independent_or_negatively_correlated(p: float) -> None:
    drops = dropped(p, 20, 100_000)
    together = {pair for line in independent_sets(20) for pair in combinations(line, 2)}
    for pair in combinations(range(20), 2):
        r = np.corrcoef(drops[list(pair)])[0, 1]
        # 190 pairs: five standard errors are exceeded once in 9,000 such tests.
        if pair in together or pair[0] // 16 != pair[1] // 16:
            assert abs(r) < 5 / np.sqrt(100_000), pair
        else:
            assert r < -0.03, pair


def test_four_passes_of_a_line_are_independent_together() -> None:
    drops = dropped(0.5, 16, 100_000)
    for line in independent_sets(16):
        counts = np.bincount(drops[list(line)].T @ [1, 2, 4, 8], minlength=16)
        assert stats.chisquare(counts).pvalue > 1e-4, line


@pytest.mark.parametrize(("p", "counts"), [(0.25, {4}), (0.3, {4, 5}), (0.5, {8}), (0.75, {12})])
def test_sixteen_passes_drop_a_unit_as_often_as_its_rate_says(p: float, counts: set[int]) -> None:
    found = np.bincount(dropped(p, 16, 20_000).sum(axis=0), minlength=17) / 20_000
    # What the law leaves to other counts is below e^-12 times a number of patterns.
    assert found[sorted(counts)].sum() > 0.999


def test_units_seeds_and_grids_are_independent() -> None:
    first, other = dropped(0.3, 31, 50_000), dropped(0.3, 31, 50_000, seed=2)
    pairs = [(first, other), (first[:15], first[16:]), (first[:, :-1], first[:, 1:])]
    for one, two in pairs:
        r = np.corrcoef(one.ravel(), two.ravel())[0, 1]
        assert abs(r) < 4.5 / np.sqrt(one.size)


@pytest.mark.parametrize(("p", "numel"), [(0.3, 17), (0.1, 20_000), (0.01, 300)])
def test_masks_do_not_depend_on_how_passes_are_grouped(p: float, numel: int) -> None:
    source = MaskSource(5, CPU, stratified=True, n_samples=30)
    whole = source.keep(p, (numel,), 2, Span(1, 0, 30)).clone()
    for cuts in ([0, 1, 16, 30], [0, 20, 30], range(31)):
        source = MaskSource(5, CPU, stratified=True, n_samples=30)
        for first, end in pairwise(cuts):
            part = source.keep(p, (numel,), 2, Span(1, first, end - first))
            assert torch.equal(part, whole[first:end])


def test_masks_of_rows_do_not_depend_on_their_batch() -> None:
    row = RowDim(0, 1)

    def masks(rows: range) -> torch.Tensor:
        source = MaskSource(5, CPU, stratified=True, n_samples=16)
        return source.keep(0.3, (len(rows), 9), 0, Span(0, 0, 16, rows), row).clone()

    whole = masks(range(60))
    assert torch.equal(masks(range(17, 40)), whole[:, 17:40])


def test_passes_are_others_only_below_two_strata() -> None:
    def masks(n_samples: int | None) -> torch.Tensor:
        source = MaskSource(5, CPU, stratified=True, n_samples=n_samples)
        return source.keep(0.3, (500,), 0, Span(0, 0, 16)).clone()

    assert torch.equal(masks(32), masks(None))
    assert torch.equal(masks(16), masks(31))
    assert not torch.equal(masks(31), masks(32))


@pytest.mark.parametrize("rate", [(13_107, 16), (3_000_000, 32)])
def test_torch_and_numpy_make_the_same_of_the_same_bits(
    rate: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_numpy = grid_patterns(Streams(3, CPU), rate, (3, 40_000), (0, 1, 1))
    monkeypatch.setattr(Streams, "on_cpu", False)
    assert torch.equal(grid_patterns(Streams(3, CPU), rate, (3, 40_000), (0, 1, 1)), by_numpy)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_first_pattern_is_taken_by_as_many_draws_as_its_limit_says(
    on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the 2^16 second draws exactly `limit` lie below it: limit - 1 is the last of them.
    table = alias_table(13_107, 16)
    (split,) = np.nonzero((table.limits > 0) & (table.limits < 2**16))
    picks, limits = np.tile(16 * split, 2), np.tile(table.limits[split], 2)
    places = limits - np.repeat([1, 0], len(split))

    def array(streams: Streams, n: int, bits: int, key: Key) -> np.ndarray:
        return (picks if key[2] >= 0 else places).astype(np.uint16).view(np.int16)

    monkeypatch.setattr(Streams, "array", array)
    monkeypatch.setattr(Streams, "on_cpu", on_cpu)
    found = grid_patterns(Streams(3, CPU), (13_107, 16), (1, len(picks)), (0, 1, 0))
    assert len(split) > 100
    np.testing.assert_array_equal(found[0, 0], table.patterns[:, 16 * split].ravel())
