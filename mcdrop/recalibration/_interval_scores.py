"""What conformal intervals measure errors from, and in which unit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import RangeError
from mcdrop.prediction import RegressionPrediction

IntervalMethod = Literal["absolute", "normalized", "quantile"]
# One is enough but for ends far larger than the scores.
_CORRECTIONS = 3
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


def scores_of(
    target: Tensor, lower: Tensor, upper: Tensor, scale: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the least score whose ends, as `moved_ends` rounds them to `dtype`, hold the target.

    Targets that repeat tie with the end of an interval. Where such a target fell outside by a
    rounding, all of its kind would, and coverage would miss its level.
    """
    scores = torch.maximum(lower - target, target - upper) / scale
    for _ in range(_CORRECTIONS):
        low, high = moved_ends(lower, upper, scores * scale, dtype)
        missing = torch.maximum(low.double() - target, target - high.double())
        more = scores + missing / scale
        more = torch.nextafter(more, torch.full_like(more, torch.inf))
        scores = torch.where(missing > 0, more, scores)
    return scores


def moved_ends(
    lower: Tensor, upper: Tensor, reach: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the ends moved out by `reach`; ends that would cross meet in the middle."""
    middle = (lower + upper) / 2
    return (
        -_rounded_up(-torch.minimum(lower - reach, middle), dtype),
        _rounded_up(torch.maximum(upper + reach, middle), dtype),
    )


def _rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the values in another dtype, none smaller than it was."""
    nearest = values.to(dtype)
    # One to two units in the last place.
    step = values.abs() * torch.finfo(dtype).eps + torch.finfo(dtype).tiny
    return torch.where(nearest.double() < values, (values + step).to(dtype), nearest)
