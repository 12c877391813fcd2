"""Moments of passes on a grid, from the pairs and triples of passes that are independent.

These lie within the rows and within the columns of the grid; see `_masks/grid.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from torch import Tensor

from mcdrop._engine.matrices import KeptMatrix
from mcdrop._masks.grid import independent_sets

__all__ = ["powers_of_mean", "variance_on_lines"]


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
class _Lines:
    """The lines that some passes on a grid lie on.

    Attributes:
        n_pairs: Pairs of passes on a line.
        n_triples: Triples of passes on a line.
        members: Ones where a pass lies on a line, (lines, passes).
        times: On how many lines a pass lies, (1, passes).
        pairs: The same, weighted by the number of passes on the line.
    """

    n_pairs: int
    n_triples: int
    members: KeptMatrix
    times: KeptMatrix
    pairs: KeptMatrix


@lru_cache(maxsize=64)
def _lines(n_samples: int) -> _Lines:
    lines = independent_sets(n_samples)
    members = np.zeros((len(lines), n_samples))
    for number, line in enumerate(lines):
        members[number, line] = 1
    sizes = members.sum(axis=1, keepdims=True)
    return _Lines(
        sum(comb(len(line), 2) for line in lines),
        sum(comb(len(line), 3) for line in lines),
        KeptMatrix(members),
        KeptMatrix(members.sum(axis=0, keepdims=True)),
        KeptMatrix((members * sizes).sum(axis=0, keepdims=True)),
    )
