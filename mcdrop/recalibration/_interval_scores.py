"""What conformal intervals measure errors from, and in which unit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import RangeError
from mcdrop.prediction import RegressionPrediction

IntervalMethod = Literal["absolute", "normalized", "quantile"]
METHODS: tuple[IntervalMethod, ...] = ("absolute", "normalized", "quantile")


def score_base(
    function: str, prediction: RegressionPrediction, method: IntervalMethod, level: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ends that scores are measured from and their unit, float64, shape of the mean.

    The score of a target is ``max(lower - y, y - upper) / scale``.
    """
    mean = prediction.mean.double()
    if method == "quantile":
        lower, upper = prediction.interval(level)
        return lower.double(), upper.double(), torch.ones_like(mean)
    if method == "absolute":
        return mean, mean, torch.ones_like(mean)
    std = prediction.variance.double().sqrt()
    if not bool((std > 0).all()):
        raise RangeError.of(
            function,
            "prediction",
            "have a predictive std above 0 to normalize by",
            "0 in some rows",
            'Predict with noise_std= (units of y), or use method="absolute"',
        )
    return mean, mean, std


def moved_ends(
    lower: Tensor, upper: Tensor, reach: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the ends moved out by `reach`; ends that would cross meet in the middle."""
    middle = (lower + upper) / 2
    return (
        torch.minimum(lower - reach, middle).to(dtype),
        torch.maximum(upper + reach, middle).to(dtype),
    )
