"""Moments of passes on a grid, from the pairs and triples of passes that are independent.

These lie within the rows and within the columns of the grid; see `_masks/grid.py`.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, sqrt

import numpy as np
from torch import Tensor

from mcdrop._engine.matrices import KeptMatrix
from mcdrop._masks.grid import independent_sets

__all__ = ["powers_of_mean", "variance_on_lines"]


def variance_on_lines(passes: Tensor) -> Tensor:
    """Average (x - x')^2 / 2 over the pairs of independent passes on a grid.

    Args:
        passes: All of them, (S, ...); near zero, to lose no digits.
    """
    return _within_lines(len(passes)).times(passes).square_().sum(dim=0)


def powers_of_mean(passes: Tensor) -> tuple[Tensor, Tensor]:
    """Return unbiased estimates of the squared and the cubed mean.

    They are means over pairs and triples of independent passes of the product of their values. Two
    passes know no cube: theirs is that of values without a third central moment.

    Args:
        passes: All passes on a grid, (S, ...).
    """
    lines = independent_sets(len(passes))
    n_pairs, n_triples = (sum(comb(len(line), k) for line in lines) for k in (2, 3))
    members = _members(len(passes))
    square = passes.square()
    first, second = members.times(passes), members.times(square)
    # Elementary symmetric polynomials by Newton's identities.
    pairs = (first.square() - second).sum(dim=0) / (2 * n_pairs)
    if not n_triples:
        mean = passes.mean(dim=0)
        return pairs, 3 * mean * pairs - 2 * mean**3
    third = members.times(square * passes)
    triples = first * (first.square() - 3 * second) + 2 * third
    return pairs, triples.sum(dim=0) / (6 * n_triples)


@lru_cache(maxsize=64)
def _within_lines(n_samples: int) -> KeptMatrix:
    """Return what subtracts the mean of its line from every pass, weighted for the average.

    The squared differences of n values sum to n times their squares about the mean.
    """
    lines = independent_sets(n_samples)
    n_pairs = sum(comb(len(line), 2) for line in lines)
    rows = []
    for line in lines:
        about_mean = np.zeros((len(line), n_samples))
        about_mean[:, line] = np.eye(len(line)) - 1 / len(line)
        rows.append(about_mean * sqrt(len(line) / 2 / n_pairs))
    return KeptMatrix(np.concatenate(rows))


@lru_cache(maxsize=64)
def _members(n_samples: int) -> KeptMatrix:
    """Return ones where a pass lies on a line, (lines, passes)."""
    lines = independent_sets(n_samples)
    members = np.zeros((len(lines), n_samples))
    for number, line in enumerate(lines):
        members[number, line] = 1
    return KeptMatrix(members)
