"""As good as an ensemble of how many networks: the deep ensemble equivalent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.checks import require_finite, require_rows
from mcdrop.comparison.scores import split_scores
from mcdrop.errors import RangeError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.targets import numbers

__all__ = ["EnsembleEquivalent", "deep_ensemble_equivalent", "losses_by_size"]


@dataclass(frozen=True)
class EnsembleEquivalent:
    """The size of a deep ensemble that scores like a method.

    Attributes:
        value: The size, between whole numbers by linear interpolation; 0 where a single network
            scores better, infinity where the whole ensemble scores worse.
        low: Smallest size that the paired test cannot tell from the method; NaN if there is none.
        high: Largest such size.
        largest: Networks in the ensemble.
    """

    value: float
    low: float
    high: float
    largest: int

    def __str__(self) -> str:
        size = f"{self.value:.1f}"
        if self.value == 0:
            size = "less than 1"
        elif math.isinf(self.value):
            size = f"more than {self.largest}"
        if math.isnan(self.low):
            return size
        return f"{size} [{self.low:.0f}, {self.high:.0f}{'+' if self.high == self.largest else ''}]"


def deep_ensemble_equivalent(score: float, scores_by_size: Sequence[float]) -> float:
    """Size of the deep ensemble that has a given score, by linear interpolation.

    The smallest size l with score(l) <= `score`, where score(l) is made non-increasing by its
    running minimum: a larger ensemble is worse by chance only.

    Args:
        score: Of the method; lower is better.
        scores_by_size: Of ensembles of 1, 2, ..., K networks on the same rows.

    Returns:
        A size from 1 to K; 0.0 if a single network scores better, infinity if K score worse.

    Raises:
        ShapeError: If there is no score.
        NonFiniteError: If a score is NaN or infinite.

    Source:
        Ashukha, Lyzhov, Molchanov & Vetrov (2020), Pitfalls of in-domain uncertainty estimation,
        section 4.1, who compare the calibrated log-likelihood; pass that of temperature-scaled
        predictions for theirs.

    Example:
        >>> deep_ensemble_equivalent(1.5, [3.0, 2.0, 1.0])
        2.5
    """
    function = "deep_ensemble_equivalent"
    by_size, wanted = (
        numbers(function, "scores_by_size", scores_by_size),
        numbers(function, "score", [score]),
    )
    require_rows(function, "scores_by_size", by_size)
    require_finite(function, scores_by_size=by_size, score=wanted)
    best = np.minimum.accumulate(by_size.reshape(-1).numpy()).tolist()
    if score > best[0]:
        return 0.0
    if score == best[0]:
        return 1.0
    for size, (before, after) in enumerate(pairwise(best), 1):
        if score >= after:
            return size + (before - score) / (before - after)
    return math.inf


def losses_by_size(prediction: Prediction, y: Any, metric: str) -> list[Tensor] | None:
    """Return the loss of each row for ensembles of 1 to K members, (N,) each.

    A size is scored by the mean over K sub-ensembles, which together take every member equally
    often: members i, i + 1, ..., counted on a circle.
    """
    samples = getattr(prediction, "samples", None)
    if samples is None:
        return None
    largest = len(samples)
    found = []
    for size in range(1, largest + 1):
        starts = range(largest if size < largest else 1)
        windows = [[(start + i) % largest for i in range(size)] for start in starts]
        scored = [split_scores(_members(prediction, w), y).get(metric) for w in windows]
        losses = [s.losses for s in scored if s is not None and s.losses is not None]
        if len(losses) < len(windows):
            return None
        found.append(torch.stack(losses).mean(dim=0))
    return found


def _members(prediction: Prediction, index: list[int]) -> Prediction:
    """Return the prediction of some members of an ensemble."""
    if isinstance(prediction, ClassificationPrediction) and prediction.samples is not None:
        chosen = prediction.samples[index]
        if len(index) == 1:
            return ClassificationPrediction.from_probs(chosen[0])
        return ClassificationPrediction.from_samples(chosen)
    if isinstance(prediction, RegressionPrediction) and prediction.samples is not None:
        chosen, own = prediction.samples[index], prediction.sample_variances
        variance = prediction.aleatoric_variance.expand_as(chosen) if own is None else own[index]
        if len(index) == 1:
            return RegressionPrediction.from_mean_std(chosen[0], variance[0].sqrt())
        return RegressionPrediction.from_samples(chosen, noise_std=variance.sqrt())
    raise RangeError.of(
        "compare", "prediction", "keep its members", "none", "Predict with a DeepEnsemble"
    )
