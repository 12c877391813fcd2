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

__all__ = [
    "Sizes",
    "changes_without_each",
    "jackknife",
    "jackknife_about",
    "means_without_each",
    "squared_sums",
    "variance_of_mean",
]

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


def jackknife_about(without_each: Tensor, sizes: Sizes) -> Tensor:
    """Return what `jackknife` does of a quantity whose values differ little, (G, ...).

    With x_j = W_j - W, where W is the mean over groups, and g_j = h_j - 1, the squared error is
    the mean over groups of (g_j x_j - m)^2 / g_j with m = sum_j g_j x_j / h_j. As the x_j sum to 0,
    that is the mean of g_j x_j^2 + m^2 / g_j.

    Args:
        without_each: The quantity without each group, which is overwritten.
        sizes: Passes of every group.
    """
    if len(sizes) < 3:
        return torch.full_like(without_each[0], torch.nan)
    matrices = _matrices(sizes)
    apart = without_each.sub_(without_each.mean(dim=0))
    center = matrices.of_center.times(apart)[0]
    squares = matrices.of_squares.times(apart.square_())[0]
    squares.addcmul_(center, center, value=matrices.mean_inverse)
    return squares.sqrt_().mul_(widening(len(sizes) - 1))


def means_without_each(sums: Tensor, sizes: Sizes) -> Tensor:
    """Return the means over the passes that remain without each group, from sums, (G, ...)."""
    return _matrices(sizes).remaining.times(sums)


def changes_without_each(
    sums: Tensor, squares: Tensor, sizes: Sizes, totals: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return by how much means without each group differ from that of all, and their variances.

    Args:
        sums: Sums over groups of values near zero, (G, ...).
        squares: Sums of their squares, (G, ...).
        totals: Sums of both over all groups.
        sizes: Passes of every group.
    """
    total, of_squares = totals
    parts = _matrices(sizes).parts.like(sums).view(-1, *(1 for _ in total.shape))
    means = (total - sums).mul_(parts)
    variances = (of_squares - squares).mul_(parts)
    variances.addcmul_(means, means, value=-1).clamp_min_(0)
    return means.sub_(total / sum(sizes)), variances


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
        parts: One over the passes that remain without each group, (G, 1).
        of_center: Factors g / h of `jackknife_about`, (1, G).
        of_squares: Factors g over the number of groups, (1, G).
        mean_inverse: Mean over groups of 1 / g.
    """

    remaining: KeptMatrix
    deviations: KeptMatrix
    of_sums: KeptMatrix
    over_sizes: KeptMatrix
    parts: KeptMatrix
    of_center: KeptMatrix
    of_squares: KeptMatrix
    mean_inverse: float


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
        KeptMatrix(1 / np.maximum(count - each, 1)[:, None]),
        KeptMatrix((each / count * less_one)[None]),
        KeptMatrix(less_one[None] / n_groups),
        float((1 / np.maximum(less_one, np.finfo(float).tiny)).mean()),
    )
