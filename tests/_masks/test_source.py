"""Masks: the rate, independence, and the key they are a function of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks import blocks
from mcdrop._masks.device_kernels import kept, scaled
from mcdrop._masks.numba_kernels import Integers
from mcdrop._masks.rows import RowDim, RowNumbers
from mcdrop._masks.source import MaskSource, Span, effective_rate
from mcdrop._masks.streams import Key, Streams
from tests._masks.plain_kernels import PLAIN

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [1e-4, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_effective_rate_is_within_two_to_the_minus_seventeen(p: float) -> None:
    assert abs(effective_rate(p) - p) <= 2**-17
    assert effective_rate(p) == pytest.approx(p, rel=1e-4)


def test_the_smallest_and_the_largest_rate_drop_something_and_keep_something() -> None:
    # Multiples of 2^-32, of which 0 and 1 would be no dropout and nothing left.
    assert effective_rate(1e-12) == 2**-32
    assert effective_rate(1 - 1e-12) == 1 - 2**-32


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
def test_drop_counts_follow_the_binomial(p: float) -> None:
    keep = MaskSource(1, CPU).keep(p, (40, 50), 0, Span(0, 0, 200))
    n = keep.numel()
    dropped = n - int(keep.sum())
    z = (dropped - n * p) / np.sqrt(n * p * (1 - p))
    assert abs(z) < 4


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_units_rows_and_passes_are_independent(dim: int) -> None:
    keep = MaskSource(3, CPU).keep(0.3, (64, 64), 0, Span(0, 0, 64)).numpy()
    first, second = np.take(keep, range(63), axis=dim), np.take(keep, range(1, 64), axis=dim)
    table = [[int((a & b).sum()) for b in (second, ~second)] for a in (first, ~first)]
    assert stats.chi2_contingency(np.array(table)).pvalue > 1e-4


def test_streams_of_sites_batches_and_seeds_are_independent() -> None:
    def draw(seed: int, batch: int, site: int) -> torch.Tensor:
        return MaskSource(seed, CPU).keep(0.5, (500,), site, Span(batch, 0, 200))

    base = draw(0, 0, 0)
    for other in (draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1)):
        agreement = (base == other).double().mean().item()
        assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(base.numel())


@pytest.mark.parametrize("numel", [7, 1000, 300_000])
@pytest.mark.parametrize("p", [0.3, 0.001])
def test_a_mask_depends_on_its_pass_and_not_on_the_grouping(numel: int, p: float) -> None:
    whole = MaskSource(5, CPU).keep(p, (numel,), 2, Span(1, 0, 37)).clone()
    source = MaskSource(5, CPU)
    spans = [Span(1, 0, 5), Span(1, 5, 1), Span(1, 6, 1), Span(1, 7, 25), Span(1, 32, 5)]
    pieces = torch.cat([source.keep(p, (numel,), 2, span).clone() for span in spans])
    assert torch.equal(whole, pieces)


def test_a_span_is_the_first_pass_of_the_first_batch_if_nothing_is_said() -> None:
    masks = [
        MaskSource(5, CPU).keep(0.3, (99,), 2, span).clone() for span in (Span(), Span(0, 0, 1))
    ]
    assert torch.equal(*masks)


def test_bits_are_drawn_once_however_passes_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    original = Streams.array

    def array(self: Streams, n: int, bits: int, key: Key) -> Integers:
        drawn.append(n)
        return original(self, n, bits, key)

    monkeypatch.setattr(Streams, "array", array)
    source = MaskSource(5, CPU)
    for first in range(0, 64, 4):
        source.keep(0.3, (1000,), 2, Span(1, first, 4))
    assert drawn == [4 * 1000] * 16
    drawn.clear()
    source = MaskSource(5, CPU, stratified=True)
    for first in range(0, 64, 4):
        source.keep(0.25, (1000,), 2, Span(1, first, 4))
    assert drawn == [1000, 1000, 2 * 1000]


LAYOUTS = {
    "rows first": RowDim(0, 1),
    "rows second": RowDim(1, 1),
    "rows outer": RowDim(0, 3),
    "rows inner": RowDim(1, 3, rows_first=False),
}


def by_row(
    source: MaskSource, numbers: RowNumbers, row: RowDim, p: float, passes: tuple[int, int]
) -> torch.Tensor:
    """Masks of some rows, (passes, rows, units of a row)."""
    shape = [5, 6]
    shape[row.dim] = row.per_row * len(numbers)
    keep = source.keep(p, tuple(shape), 2, Span(9, *passes, numbers), row).clone()
    sizes = (len(numbers), row.per_row) if row.rows_first else (row.per_row, len(numbers))
    apart = keep.unflatten(1 + row.dim, sizes)
    return apart.movedim(1 + row.dim + (0 if row.rows_first else 1), 1).flatten(2)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("p", [0.3, 0.001])
def test_a_mask_depends_on_its_row_and_not_on_the_rows_drawn_with_it(
    row: RowDim, stratified: bool, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of few rows, so that batches cross their borders.
    monkeypatch.setitem(blocks._INTEGERS, "cpu", 1000)
    whole = by_row(MaskSource(5, CPU, stratified=stratified), range(90), row, p, (0, 100))
    assert int((~whole).sum()) > 0
    splits: list[list[RowNumbers]] = [
        [range(i, i + 1) for i in range(90)],
        [range(i, min(i + 7, 90)) for i in range(0, 90, 7)],
        [range(64), range(64, 90)],
        [range(40, 90), range(40)],
        [tuple(range(0, 90, 3)), (1, 2, 88, 89), (5, 4, 80, 5)],
    ]
    for split in splits:
        source = MaskSource(5, CPU, stratified=stratified)
        for numbers in split:
            for first, count in ((0, 3), (3, 61), (64, 36)):
                found = by_row(source, numbers, row, p, (first, count))
                assert torch.equal(found, whole[first : first + count, list(numbers)])


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_whole_blocks_as_a_device_draws_them_hold_the_same_masks_for_a_row(
    row: RowDim, stratified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(blocks._INTEGERS, "cpu", 1000)
    monkeypatch.setattr(Streams, "on_cpu", False)
    whole = by_row(MaskSource(5, CPU, stratified=stratified), range(90), row, 0.3, (0, 100))
    assert abs(float((~whole).double().mean()) - 0.3) < 4 * (0.21 / whole.numel()) ** 0.5
    source = MaskSource(5, CPU, stratified=stratified)
    for numbers in (range(7), range(7, 90), (3, 40, 41, 89)):
        found = by_row(source, numbers, row, 0.3, (10, 70))
        assert torch.equal(found, whole[10:80, list(numbers)])


@pytest.mark.parametrize("stratified", [True, False])
def test_masks_of_a_device_do_not_depend_on_parts_and_groups(
    stratified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Streams, "on_cpu", False)

    def keep(first: int, count: int) -> torch.Tensor:
        source = MaskSource(5, CPU, stratified=stratified)
        return source.keep(0.3, (4, 50), 1, Span(0, first, count, range(4)), RowDim(0, 1))

    whole = keep(0, 300)
    assert whole.shape == (300, 4, 50)
    monkeypatch.setattr("mcdrop._masks.source._LARGE_DEVICE_SITE", 0)
    assert torch.equal(keep(0, 300), whole)
    for first, count in ((0, 1), (17, 30), (120, 140), (299, 1)):
        assert torch.equal(keep(first, count), whole[first : first + count])


@pytest.mark.parametrize("units", [50, 600])
def test_drops_of_every_row_are_balanced_over_every_cycle(
    units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of passes differ in length within the first cycle, and blocks of rows with them.
    monkeypatch.setitem(blocks._INTEGERS, "cpu", 40 * units)
    source, rows = MaskSource(4, CPU, stratified=True), range(3, 103)
    keep = source.keep(0.3, (100, units), 0, Span(0, 0, 256, rows), RowDim(0, 1))
    for length in (16, 64):
        counts = (~keep).view(-1, length, 100, units).sum(dim=1)
        # 16 p = 4.8 and 64 p = 19.2.
        assert counts.unique().tolist() == {16: [4, 5], 64: [19, 20]}[length]
    # Rounding is as random between rows as within them.
    extra = (~keep[:16]).sum(dim=0).double() - 16 * effective_rate(0.3)
    correlation = torch.corrcoef(extra).fill_diagonal_(0)
    assert correlation.abs().max() < 5.5 / units**0.5


@pytest.mark.parametrize("stratified", [True, False])
def test_rows_of_all_blocks_are_independent_and_balanced(
    stratified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(blocks._INTEGERS, "cpu", 1000)
    source, rows = MaskSource(4, CPU, stratified=stratified), range(37, 437)
    keep = source.keep(0.25, (400, 20), 0, Span(0, 0, 64, rows), RowDim(0, 1)).clone()
    dropped = (~keep).double()
    if stratified:
        assert (dropped.view(4, 16, 400, 20).sum(dim=1) == 4).all()
    one = dropped[::16] - 0.25
    n = 4 * 20
    correlation = torch.einsum("sru,squ->rq", one, one) / (n * 0.25 * 0.75)
    correlation.fill_diagonal_(0)
    # The largest of 79,800 normal values is about 4.6 standard errors, in 1 % of cases 5.3.
    assert correlation.abs().max() < 5.5 / n**0.5
    assert abs(correlation.mean()) < 4 / (n * 400 * 399 / 2) ** 0.5
    # A pass of one row against the same pass of all others would show a stream used twice.
    assert len({bytes(row.numpy().tobytes()) for row in keep.transpose(0, 1)}) == 400


def test_rows_one_at_a_time_draw_three_times_as_many_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []
    original = Streams.array

    def array(self: Streams, n: int, bits: int, key: Key) -> Integers:
        drawn.append(n)
        return original(self, n, bits, key)

    monkeypatch.setattr(Streams, "array", array)
    source = MaskSource(5, CPU, stratified=True)
    for first in range(256):
        numbers = range(first, first + 1)
        source.keep(0.25, (1, 50), 0, Span(first, 0, 16, numbers), RowDim(0, 1))
    # 1 row, then twice as many as are needed each time. A row draws four strata of 50 units.
    assert [n // 200 for n in drawn] == [1, 4, 10, 22, 46, 94, 190, 382]


def test_a_large_layer_is_kept_in_part_and_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def masks() -> torch.Tensor:
        source = MaskSource(5, CPU, stratified=True)
        spans = [Span(0, first, 20, range(30)) for first in range(0, 600, 20)]
        return torch.cat([source.keep(0.3, (30, 50), 0, s, RowDim(0, 1)).clone() for s in spans])

    whole = masks()
    monkeypatch.setattr("mcdrop._masks.source._LARGE_SITE", 0)
    assert torch.equal(masks(), whole)
    monkeypatch.setattr("mcdrop._masks.source._KEPT_BITS", 0)
    assert torch.equal(masks(), whole)


@pytest.mark.parametrize("p", [0.25, 0.3, 0.001])
@pytest.mark.parametrize("units", [5, 100, 700])
def test_blocks_of_a_small_layer_are_drawn_together_and_stay_the_same(
    units: int, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def masks() -> torch.Tensor:
        source = MaskSource(5, CPU, stratified=True)
        spans = [Span(0, first, 150, range(3, 5)) for first in (0, 150, 300)]
        return torch.cat([source.keep(p, (2, units), 0, s, RowDim(0, 1)).clone() for s in spans])

    together = masks()
    monkeypatch.setattr("mcdrop._masks.source._SMALL_SITE", 0)
    assert torch.equal(masks(), together)


@pytest.mark.parametrize(("first_row", "n_kept"), [(0, (6, 0)), (3, (6, 1))])
def test_bits_that_are_kept_stay_below_their_bound(
    first_row: int, n_kept: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a site, patterns of 4 strata, 4 rows and 50 units: 1,600 bytes. Rows from the middle of a
    # block are taken from twice as many as lead up to them, 14 rows: 5,600 bytes.
    monkeypatch.setattr("mcdrop._masks.source._KEPT_BITS", 10_000)
    rows = range(first_row, first_row + 4)
    source = MaskSource(5, CPU, stratified=True)
    for site in range(20):
        source.keep(0.3, (4, 50), site, Span(0, 0, 16, rows), RowDim(0, 1))
    assert (len(source._latest), len(source._edges)) == n_kept


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("same_for_all_passes", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_of_few_passes_on_both_sides_of_a_block_are_those_of_the_mask(
    count: int, same_for_all_passes: bool, stratified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcdrop._masks.source.compiled", lambda units: PLAIN)
    n = 1 if same_for_all_passes else count
    x = torch.randn(n, 9, generator=torch.Generator().manual_seed(0))
    # Blocks of 64 passes: pass 63 is the last of the first.
    source, span = MaskSource(5, CPU, stratified=stratified), Span(1, 63, count)
    keep = source.keep(0.3, (9,), 2, span).clone()
    found = source.times(x, 2.0, 0.3, ((9,), 2, span, None), "key")
    assert found is not None
    assert torch.equal(found, x * keep * 2)


class TorchKernels:
    """A kernel of a device in plain operations."""

    def drop_by_pattern(
        self, x: torch.Tensor, patterns: torch.Tensor, first: int, scale: float, out: torch.Tensor
    ) -> None:
        out.copy_(scaled(x, kept(patterns, range(first, first + len(out))), scale))


@pytest.mark.parametrize("same_for_all_passes", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_of_a_device_on_both_sides_of_a_block_are_those_of_the_mask(
    count: int, same_for_all_passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Streams, "on_cpu", False)
    monkeypatch.setattr("mcdrop._masks.source.ready", lambda device: TorchKernels())
    n = 1 if same_for_all_passes else count
    x = torch.randn(n, 9, generator=torch.Generator().manual_seed(0))
    # A device draws blocks of 128 passes: pass 127 is the last of the first.
    source, span = MaskSource(5, CPU, stratified=True), Span(1, 127, count)
    found = source.times(x, 2.0, 0.3, ((9,), 2, span, None), "key")
    assert found is not None
    assert torch.equal(found, x * source.keep(0.3, (9,), 2, span) * 2)


def test_every_lane_of_a_word_has_the_same_rate() -> None:
    keep = MaskSource(8, CPU).keep(0.25, (4 * 4096,), 0, Span(0, 0, 16))
    dropped = (~keep).view(16, 4096, 4).sum(dim=(0, 1)).numpy()
    assert stats.chisquare(dropped).pvalue > 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_masks_on_a_gpu_do_not_depend_on_the_grouping() -> None:
    gpu = torch.device("cuda")
    whole = MaskSource(5, gpu).keep(0.3, (999,), 2, Span(1, 0, 37))
    source = MaskSource(5, gpu)
    spans = [Span(1, 0, 5), Span(1, 5, 1), Span(1, 6, 31)]
    assert torch.equal(whole, torch.cat([source.keep(0.3, (999,), 2, span) for span in spans]))
    assert whole.double().mean().item() == pytest.approx(0.7, abs=0.02)


def test_a_source_aside_is_stratified_and_shares_the_seed() -> None:
    plain = MaskSource(3, torch.device("cpu"))
    aside, span = plain.aside(), Span(0, 2**40, 64)
    assert aside.stratified
    keep = aside.keep(0.25, (50,), 0, span)
    # A quarter of every 16.
    assert torch.equal((~keep).view(4, 16, 50).sum(dim=1), torch.full((4, 50), 4))
    again = MaskSource(3, torch.device("cpu"), stratified=True).aside()
    assert torch.equal(again.keep(0.25, (50,), 0, span), keep)
