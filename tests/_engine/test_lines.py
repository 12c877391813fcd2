"""Moments of passes on a grid, against the mean over all pairs and triples of independent ones."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mcdrop._engine.lines import LineSums, powers_of_mean, variance_on_lines


def lines(n_samples: int) -> list[list[int]]:
    rows = [[t for t in range(n_samples) if t % 16 // 4 == i] for i in range(4)]
    return rows + [[t for t in range(n_samples) if t % 4 == i] for i in range(4)]


@pytest.mark.parametrize("n_samples", range(2, 32))
def test_pairs_and_triples_are_those_of_a_line(n_samples: int) -> None:
    generator = torch.Generator().manual_seed(n_samples)
    x = torch.randn(n_samples, 2, 3, generator=generator, dtype=torch.float64)
    pairs = [pair for line in lines(n_samples) for pair in combinations(line, 2)]
    triples = [triple for line in lines(n_samples) for triple in combinations(line, 3)]
    halves = torch.stack([(x[s] - x[t]).square() / 2 for s, t in pairs])
    torch.testing.assert_close(variance_on_lines(x), halves.mean(dim=0))
    square, cube = powers_of_mean(x)
    torch.testing.assert_close(square, torch.stack([x[s] * x[t] for s, t in pairs]).mean(dim=0))
    if triples:
        products = torch.stack([x[list(triple)].prod(dim=0) for triple in triples])
        torch.testing.assert_close(cube, products.mean(dim=0))


@pytest.mark.parametrize("n_samples", range(2, 32))
def test_sums_tell_the_variance_and_the_excess_of_powers(n_samples: int) -> None:
    generator = torch.Generator().manual_seed(n_samples)
    x = torch.randn(n_samples, 2, 3, generator=generator, dtype=torch.float64)
    # A center that rounding has moved from the mean.
    x -= x.mean(dim=0) + 1e-8
    sums = LineSums.of(x.clone(), x.square())
    torch.testing.assert_close(sums.variance(), variance_on_lines(x))
    # The powers of 1 + e, where e = (x - mean) / 3.
    mean = x.mean(dim=0)
    square, cube = powers_of_mean(1 + (x - mean) / 3)
    second, third = sums.excess_powers(torch.full_like(mean, 1 / 3), mean)
    some = sums.part(slice(None), torch.tensor([2, 2]))
    assert torch.equal(some.variance(), sums.variance()[:, [2, 2]])
    thirds = torch.full((2, 2), 1 / 3, dtype=torch.float64)
    part = some.excess_powers(thirds, mean[:, [2, 2]])
    torch.testing.assert_close(part, (second[:, [2, 2]], third[:, [2, 2]]))
    torch.testing.assert_close(second, square - 1)
    torch.testing.assert_close(third, cube - 3 * square + 2)


def test_passes_that_are_alike_have_no_variance() -> None:
    assert torch.equal(variance_on_lines(torch.zeros(16, 5)), torch.zeros(5))
    assert bool((variance_on_lines(torch.full((16, 5), 0.1)) >= 0).all())
