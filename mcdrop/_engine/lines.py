"""Moments of passes on a grid, from the pairs and triples of passes that are independent.

These lie within the rows and within the columns of the grid; see `_masks/grid.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
import torch
from torch import Tensor

from mcdrop._engine.matrices import KeptMatrix
from mcdrop._masks.grid import independent_sets

__all__ = ["LineSums", "powers_of_mean", "variance_on_lines"]


def variance_on_lines(passes: Tensor) -> Tensor:
    """Average (x - x')^2 / 2 over the pairs of independent passes on a grid.

    The squared differences of n values sum to n times the sum of squares, less the squared sum.

    Args:
        passes: All of them, (S, ...); near zero, to lose no digits.
    """
    lines = _lines(len(passes))
    squares = lines.pairs.times(passes.square())[0]
    total = squares - lines.members.times(passes).square_().sum(dim=0)
    return total.div_(2 * lines.n_pairs).clamp_min_(0)


def powers_of_mean(passes: Tensor) -> tuple[Tensor, Tensor]:
    """Return unbiased estimates of the squared and the cubed mean.

    They are means over pairs and triples of independent passes of the product of their values. Two
    passes know no cube: theirs is that of values without a third central moment.

    Args:
        passes: All passes on a grid, (S, ...).
    """
    lines, square = _lines(len(passes)), passes.square()
    first = lines.members.times(passes)
    # Elementary symmetric polynomials by Newton's identities.
    pairs = first.square().sum(dim=0) - lines.times.times(square)[0]
    pairs /= 2 * lines.n_pairs
    if not lines.n_triples:
        mean = passes.mean(dim=0)
        return pairs, 3 * mean * pairs - 2 * mean**3
    second, third = lines.members.times(square), lines.times.times(square.mul_(passes))[0]
    triples = (first.square() - 3 * second).mul_(first).sum(dim=0) + 2 * third
    return pairs, triples / (6 * lines.n_triples)


@dataclass(frozen=True)
class LineSums:
    """Sums over lines of passes near zero, such as deviations from their mean; all (...).

    With f, s and t the sums of a line's values, of their squares and of their cubes:

    Attributes:
        count: Number of passes.
        of_pairs: Mean over pairs of the sum of both values.
        of_triples: Mean over triples of the sum of the three.
        squares: Sum of s times the number of passes on the line less 1.
        products: Sums of f^2 - s, and of that times the passes on the line less 2, (2, ...).
        triples: Sum of f^3 - 3 f s + 2 t.
    """

    count: int
    of_pairs: Tensor
    of_triples: Tensor
    squares: Tensor
    products: Tensor
    triples: Tensor

    @classmethod
    def of(cls, passes: Tensor, square: Tensor) -> LineSums:
        """Sum all passes on a grid, given their squares, (S, ...); the passes are overwritten."""
        lines = _lines(len(passes))
        first, second = lines.members.times(passes), lines.members.times(square)
        squares = lines.beside.times(second)[0]
        cubes = lines.times.times(passes.mul_(square))[0]
        products = first.square().sub_(second)
        both = lines.both.times(products)
        # By Newton's identities, the sum is 6 times that of the products of three.
        triples = products.sub_(second, alpha=2).mul_(first).sum(dim=0).add_(cubes, alpha=2)
        of_both = lines.sums.times(first)
        return cls(len(passes), of_both[0], of_both[1], squares, both, triples)

    def part(self, *index: Tensor | slice) -> LineSums:
        """Return the sums of a part of the values.

        Args:
            index: Selects along the dimensions of the passes behind the first.
        """
        return LineSums(
            self.count,
            self.of_pairs[index],
            self.of_triples[index],
            self.squares[index],
            self.products[(slice(None), *index)],
            self.triples[index],
        )

    def variance(self) -> Tensor:
        """Return what `variance_on_lines` does."""
        lines = _lines(self.count)
        # A line of n passes adds n s - f^2 = (n - 1) s - (f^2 - s).
        total = self.squares - self.products[0]
        return total.div_(2 * lines.n_pairs).clamp_min_(0)

    def excess_powers(self, scale: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the estimates of powers of a mean differ by from its powers, over these.

        With e = scale (d - mean) for passes d, and A_k the estimate of E[1 + e]^k that
        `powers_of_mean` makes, these are A_2 - 1 and A_3 - 3 A_2 + 2, to all digits.

        Args:
            scale: Factor of the deviations from the mean, (...).
            mean: Mean of the passes, which is small against their spread, (...).
        """
        lines, square = _lines(self.count), scale.square()
        pairs, of_triples = self.products * square
        second = (self.of_pairs - 2 * mean).mul_(scale).add_(pairs, alpha=1 / (2 * lines.n_pairs))
        if not lines.n_triples:
            return second, torch.zeros_like(second)
        third = (self.of_triples - 3 * mean).mul_(scale)
        third.add_(of_triples, alpha=1 / (2 * lines.n_triples))
        third.add_(square.mul_(scale).mul_(self.triples), alpha=1 / (6 * lines.n_triples))
        return second, third.sub_(second, alpha=3)


@dataclass(frozen=True)
class _Lines:
    """The lines that some passes on a grid lie on.

    Attributes:
        n_pairs: Pairs of passes on a line.
        n_triples: Triples of passes on a line.
        members: Ones where a pass lies on a line, (lines, passes).
        times: On how many lines a pass lies, (1, passes).
        pairs: The same, weighted by the number of passes on the line.
        beside: Other passes on the line of each of its passes, (1, lines).
        both: One for every line, and the passes that a pair leaves on it, (2, lines).
        sums: From sums over lines, (lines, ...), to the mean over pairs of the sum of both, and
            over triples of the sum of the three, (2, lines).
    """

    n_pairs: int
    n_triples: int
    members: KeptMatrix
    times: KeptMatrix
    pairs: KeptMatrix
    beside: KeptMatrix
    both: KeptMatrix
    sums: KeptMatrix


@lru_cache(maxsize=64)
def _lines(n_samples: int) -> _Lines:
    lines = independent_sets(n_samples)
    members = np.zeros((len(lines), n_samples))
    for number, line in enumerate(lines):
        members[number, line] = 1
    sizes = members.sum(axis=1, keepdims=True)
    n_pairs = sum(comb(len(line), 2) for line in lines)
    n_triples = sum(comb(len(line), 3) for line in lines)
    beside = sizes.T - 1
    of_pairs = beside / n_pairs
    of_triples = beside * (beside - 1) / 2 / max(1, n_triples)
    return _Lines(
        n_pairs,
        n_triples,
        KeptMatrix(members),
        KeptMatrix(members.sum(axis=0, keepdims=True)),
        KeptMatrix((members * sizes).sum(axis=0, keepdims=True)),
        KeptMatrix(beside),
        KeptMatrix(np.concatenate([np.ones_like(beside), beside - 1])),
        KeptMatrix(np.concatenate([of_pairs, of_triples])),
    )
