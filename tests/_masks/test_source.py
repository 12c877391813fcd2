"""Masks: the rate, independence, and the key they are a function of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop._masks.source import MaskSource, Span, effective_rate
from mcdrop._masks.streams import Key, Streams

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [1e-4, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_effective_rate_is_within_two_to_the_minus_seventeen(p: float) -> None:
    assert abs(effective_rate(p) - p) <= 2**-17
    assert effective_rate(p) == pytest.approx(p, rel=1e-4)


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


def test_bits_are_drawn_once_however_passes_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    original = Streams.lanes

    def lanes(self: Streams, n: int, bits: int, key: Key) -> torch.Tensor:
        drawn.append(n)
        return original(self, n, bits, key)

    monkeypatch.setattr(Streams, "lanes", lanes)
    source = MaskSource(5, CPU)
    for first in range(0, 64, 4):
        source.keep(0.3, (1000,), 2, Span(1, first, 4))
    assert drawn == [64 * 1000]


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
