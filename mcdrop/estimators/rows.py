"""Training rows in an order and with weights that do not depend on how they were passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["TrainingRows", "folds", "rounded", "training_rows"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingRows:
    """Distinct rows, sorted, with their weights: a row that occurs twice is one of weight 2.

    Attributes:
        x: Features, (N, D).
        y: Targets, (N, K).
        weight: Weights above 0, (N,).
    """

    x: Tensor
    y: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """Return the number of distinct rows."""
        return len(self.x)

    def scale(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted mean and standard deviation of columns; 1 where a column is constant."""
        share = (self.weight / self.weight.sum()).unsqueeze(1)
        mean = (share * values).sum(dim=0)
        std = (share * (values - mean).square()).sum(dim=0).sqrt()
        # Columns that are constant up to rounding differ from their mean by rounding only.
        constant = (values == values[:1]).all(dim=0) | (std <= 1e-12 * mean.abs())
        return mean, torch.where(constant, 1.0, std)


def rounded(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Round a scale to float32, the type of the weights, where that moves no column visibly.

    Of columns far from 0 the nearest float32 may lie several standard deviations off the mean.
    """
    near = mean.float().double()
    return torch.where((near - mean).abs() > 1e-3 * std, mean, near), std.float().double()


def training_rows(X: Any, y: Any, sample_weight: Float64 | None) -> TrainingRows:
    """Merge equal rows and sort them, so that a weight of k means the same as k copies.

    Args:
        X: Features, (N, D).
        y: Targets, (N, K).
        sample_weight: Weights, (N,), at least 0; None for ones.
    """
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    used = weight > 0
    both = np.hstack([np.asarray(X, np.float64), np.asarray(y, np.float64)])[used]
    distinct, group = np.unique(both, axis=0, return_inverse=True)
    total = np.bincount(group.reshape(-1), weights=weight[used], minlength=len(distinct))
    rows = torch.from_numpy(distinct)
    width = np.shape(X)[1]
    return TrainingRows(rows[:, :width], rows[:, width:], torch.from_numpy(total))


def folds(strata: Tensor, n_folds: int, generator: torch.Generator) -> Tensor:
    """Deal rows out to folds at random, each stratum evenly.

    Args:
        strata: Stratum of each row, (N,), such as its class.
        n_folds: Number of folds.
        generator: Source of random numbers.

    Returns:
        Fold of each row, (N,).
    """
    shuffled = torch.randperm(len(strata), generator=generator)
    order = shuffled[torch.argsort(strata[shuffled], stable=True)]
    dealt = torch.empty_like(order)
    dealt[order] = torch.arange(len(order)) % n_folds
    return dealt
