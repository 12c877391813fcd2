"""The delete-group jackknife: standard errors from values without each group of passes.

Which passes form a group is known in advance, so that means without each group and squared errors
are products with matrices that depend on the sizes of groups alone. These are made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mcdrop._engine.matrices import KeptMatrix
from mcdrop._engine.student import widening

__all__ = ["Sizes", "jackknife", "means_without_each", "squared_sums", "variance_of_mean"]

Sizes = tuple[int, ...]
"""Passes of every group."""


def jackknife(whole: Tensor, without_each: Tensor, sizes: Sizes) -> Tensor:
    """Jackknife standard error of a quantity from its leave-one-group-out values.

    It is widened by Student's t with G - 1 degrees of freedom, so that 1.96 standard errors cover
    95 % also for few groups.

    Args:
        whole: The quantity from all passes.
        without_each: The quantity without each group, (G, ...).
        sizes: Passes of every group.

    Returns:
        Standard error, shape of `whole`. NaN for fewer than three groups: of two passes, one
        remains, whose variance is 0, and the standard error would wrongly be 0.

    Source:
        Busing, Meijer & van der Leeden (1999), the delete-m_j jackknife.
    """
    if len(sizes) < 3:
        return torch.full_like(whole, torch.nan)
    deviations = _matrices(sizes).deviations.times(without_each - whole)
    return deviations.square_().sum(dim=0).sqrt_().mul_(widening(len(sizes) - 1))


def means_without_each(sums: Tensor, sizes: Sizes) -> Tensor:
    """Return the means over the passes that remain without each group, from sums, (G, ...)."""
    return _matrices(sizes).remaining.times(sums)


def variance_of_mean(sums: Tensor, sizes: Sizes) -> Tensor:
    """Return the squared jackknife error of the mean over all passes, from sums, (G, ...)."""
    return _matrices(sizes).of_sums.times(sums).square_().sum(dim=0)


def squared_sums(sums: Tensor, sizes: Sizes) -> Tensor:
    """Return the squared sums of groups over their sizes, added up, from sums, (G, ...)."""
    return _matrices(sizes).over_sizes.times(sums.square())[0]


@dataclass(frozen=True)
class _Matrices:
    """What the jackknife multiplies by.

    Attributes:
        remaining: From sums to means without each group, (G, G).
        deviations: From differences W_j - W to what has the squared error as its sum of squares.
        of_sums: The same from sums, for the mean.
        over_sizes: One over every size, (1, G).
    """

    remaining: KeptMatrix
    deviations: KeptMatrix
    of_sums: KeptMatrix
    over_sizes: KeptMatrix


@lru_cache(maxsize=64)
def _matrices(sizes: Sizes) -> _Matrices:
    """Return the matrices for groups of these sizes.

    With h_j the number of passes over that of group j, its pseudo-value is W - (h_j - 1)(W_j - W).
    Their mean, weighted by 1 / h_j, is the center; the squared error is the mean over groups of
    the squared deviations from it over h_j - 1.
    """
    count, each = sum(sizes), np.array(sizes, dtype=np.float64)
    n_groups = len(sizes)
    remaining = (1 - np.eye(n_groups)) / np.maximum(count - each, 1)[:, None]
    less_one = count / each - 1
    deviations = each / count * less_one - np.diag(less_one)
    deviations /= np.sqrt(np.maximum(less_one, np.finfo(float).tiny) * n_groups)[:, None]
    return _Matrices(
        KeptMatrix(remaining),
        KeptMatrix(deviations),
        KeptMatrix(deviations @ (remaining - 1 / count)),
        KeptMatrix(1 / each[None]),
    )
