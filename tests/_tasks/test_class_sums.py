"""Sums over masks without a pass say what moments of passes in strata say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.class_sums import ClassMeans, MaskSums, PassSums
from mcdrop.prediction.classification import entropy


def distributions(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    scores = torch.randn(count, 5, 3, generator=generator, dtype=dtype)
    probs = scores.softmax(dim=2)
    return probs, entropy(probs, dim=2)


def assert_same(found: ClassMeans, expected: ClassMeans) -> None:
    for name in ("probs", "spread", "entropy"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("counts", [(1024,), (16, 48, 512), (320, 16), (64,), (1600, 32)])
def test_they_are_moments_of_strata(counts: tuple[int, ...]) -> None:
    sums, reference = MaskSums(), PassSums(PassGroups(None, stratified=True))
    for count in counts:
        probs, entropies = distributions(count)
        sums.update(probs, entropies)
        reference.update(probs, entropies, count)
    assert sums.count == sum(counts) == reference.count
    assert_same(sums.whole(), reference.whole())
    sizes, without = sums.without_each()
    expected_sizes, expected = reference.without_each()
    assert sizes == expected_sizes
    assert_same(without, expected)


def test_rows_are_those_of_the_whole() -> None:
    sums, rows = MaskSums(), torch.tensor([3, 0])
    sums.update(*distributions(256))
    part = sums.rows(rows)
    assert torch.equal(part.whole().probs, sums.whole().probs[rows])
    # What is added to the part later leaves the whole alone.
    probs, entropies = distributions(16)
    part.update(probs[:, rows], entropies[:, rows])
    assert (part.count, sums.count) == (272, 256)
    both = torch.cat([distributions(256)[0][:, rows], probs[:, rows]])
    torch.testing.assert_close(part.whole().probs, both.mean(dim=0))
    torch.testing.assert_close(sums.whole().probs, distributions(256)[0].mean(dim=0))


def test_single_precision_is_summed_in_double() -> None:
    sums = MaskSums()
    sums.update(*distributions(1024, torch.float32))
    assert sums.whole().probs.dtype == torch.float64


def test_large_outputs_are_kept_in_fewer_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcdrop._tasks.class_sums._LARGE", 15)
    sums = MaskSums()
    sums.update(*distributions(256))
    assert sums.without_each()[0] == (64, 64, 64, 64)


def test_draws_of_a_pass_add_their_spread() -> None:
    probs, entropies = distributions(40)
    sums = PassSums(PassGroups(None))
    sums.update(probs, entropies, 10)
    assert sums.count == 10
    whole = sums.whole()
    torch.testing.assert_close(whole.probs, probs.mean(dim=0))
    torch.testing.assert_close(whole.spread, probs.var(dim=0, correction=0))
    torch.testing.assert_close(whole.entropy, entropies.mean(dim=0))
