"""What a device computes, computed on the CPU: the same patterns as there, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mcdrop._masks import stratified
from mcdrop._masks.device_kernels import (
    extra_drops,
    kept,
    looked_up,
    picks_and_starts,
    scaled,
    signed_table,
)
from mcdrop._masks.stratified import PatternPart, kept_passes
from mcdrop._masks.streams import Streams

CPU = torch.device("cpu")


@pytest.mark.parametrize("numerator", [1, 1000, 6554, 2**15, 60_000])
@pytest.mark.parametrize("part", [range(64), range(16, 32)])
def test_patterns_are_those_of_the_cpu(numerator: int, part: range) -> None:
    # With two streams in place of one, the bits are the same as well.
    bits, rows, units, blocks = 16, 3, 5, range(0, 64, 64)
    fewest, extra = divmod(16 * numerator, 2**bits)
    streams, wanted = Streams(0, CPU), PatternPart(blocks, part, rows, units)
    expected = stratified.drop_patterns(streams, (numerator, bits), wanted, (7, 2))
    shapes = (rows, 4, units), (rows, 1, units)
    picks, starts = picks_and_starts(streams, shapes, bits, ((7, 2, 0), (7, 2, -1)), together=False)
    picks, starts = picks.transpose(0, 1), starts.transpose(0, 1)
    more = extra_drops(starts, 4, (0, 4, extra), extra - 2 ** (bits - 1), bits) if extra else None
    table = signed_table(stratified._tables(fewest, CPU))
    begin, end = wanted.strata
    found = looked_up(table, picks, more)[begin:end]
    assert torch.equal(found, expected)


def test_a_signed_table_is_the_table() -> None:
    table = torch.arange(2**17, dtype=torch.int32)
    signed = signed_table(table)
    picks = torch.tensor([0, 1, 32767, -32768, -1], dtype=torch.int16)
    unsigned = picks.to(torch.int64) & 0xFFFF
    for half in (False, True):
        more = torch.full((5,), int(half))
        assert torch.equal(looked_up(signed, picks, more), (unsigned + 2**16 * half).int())
    assert torch.equal(looked_up(signed, picks, None), unsigned.int())


@pytest.mark.parametrize("numbers", [range(32), range(16, 32), range(3, 20), range(5, 7)])
def test_unpacking_is_that_of_the_cpu(numbers: range) -> None:
    patterns = torch.randint(-(2**15), 2**15, (2, 11)).to(torch.int16)
    expected = torch.empty(len(numbers), 11, dtype=torch.bool)
    kept_passes(patterns.numpy(), numbers.start, expected.numpy())
    assert torch.equal(kept(patterns, numbers), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shapes", [((6, 4), (6, 4)), ((1, 4), (6, 4)), ((6, 4), (6, 1)), ((), ())])
def test_a_product_with_a_mask_is_that_of_where(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shapes[0], generator=generator, dtype=dtype)
    keep = torch.rand(shapes[1], generator=generator) > 0.4
    found = scaled(x, keep, 1 / 0.9)
    assert found.dtype == dtype
    assert torch.equal(found, torch.where(keep, x * (1 / 0.9), 0))


def test_one_stream_may_hold_both() -> None:
    shapes = (4, 3, 50), (1, 3, 50)
    keys = (0, 0, 0), (0, 0, -1)
    picks, starts = picks_and_starts(Streams(0, CPU), shapes, 16, keys, together=True)
    assert (picks.shape, starts.shape) == shapes
    both = np.concatenate([picks.numpy().ravel(), starts.numpy().ravel()]) / 2.0**16 + 0.5
    assert stats.kstest(both, "uniform").pvalue > 1e-3
    wide = picks_and_starts(Streams(0, CPU), shapes, 32, keys, together=True)
    assert (wide[0].dtype, wide[1].dtype) == (torch.int16, torch.int32)


def test_results_do_not_depend_on_inference_mode() -> None:
    def one() -> Tensor:
        keep = kept(torch.ones(1, 2, dtype=torch.int16), range(16))
        return scaled(torch.ones(2), keep, 2.0)

    with torch.inference_mode():
        inside = one()
    assert torch.equal(one(), inside)
