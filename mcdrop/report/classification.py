"""Scores and figure points of a classification prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mcdrop.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    nll_categorical,
    reliability_curve,
)
from mcdrop.prediction import ClassificationPrediction
from mcdrop.report.curves import Curve, equal_groups, wilson_interval
from mcdrop.report.measures import Missing, Resampling, Score, Scores, as_scored

__all__ = ["Classification", "classification_curves", "classification_scores"]

_BINS = 15
_REFERRED = tuple(round(0.02 * i, 2) for i in range(48))


@dataclass(frozen=True)
class Classification:
    """A prediction and its labels.

    Attributes:
        prediction: As float64 on the CPU with `probs` of shape (N, C).
        y: Labels, int64, (N,).
    """

    prediction: ClassificationPrediction
    y: Tensor

    @property
    def wrong(self) -> Tensor:
        """1 where the most probable class is not the label, else 0; float64, (N,)."""
        return (self.prediction.labels != self.y).double()


def classification_scores(c: Classification) -> Scores:
    """Score one prediction: every number of the table, or why it is missing."""
    p = c.prediction
    passes = p.n_samples > 1
    one_set = "one fixed set of weights has none" if p.n_samples == 0 else "needs several passes"
    return {
        "accuracy": Score(accuracy, (p.probs, c.y)),
        "nll": _nll(c),
        "brier": Score(as_scored, (brier_score(p.probs, c.y),)),
        "ece": Score(partial(expected_calibration_error, n_bins=_BINS), (p.probs, c.y), least=0.0),
        "confidence": Score(as_scored, (p.confidence,)),
        "predictive_entropy": Score(as_scored, (p.predictive_entropy,)),
        "mutual_information": Score(as_scored, (p.mutual_information,))
        if passes
        else Missing(one_set),
    }


def _nll(c: Classification) -> Score | Missing:
    """Score the labels, unless one of them was called impossible."""
    scores = torch.as_tensor(nll_categorical(c.prediction.probs, c.y))
    impossible = int(torch.isinf(scores).sum())
    if impossible:
        return Missing(f"infinite: the true class of {impossible} rows was given probability 0")
    return Score(as_scored, (scores,))


def classification_curves(
    methods: Mapping[str, Classification], resampling: Resampling
) -> dict[str, tuple[Curve, ...]]:
    """Points of every figure, one curve per method."""
    level = resampling.level
    return {
        "reliability": tuple(_reliability(name, c, level) for name, c in methods.items()),
        "error_by_entropy": tuple(_error_by_entropy(name, c, level) for name, c in methods.items()),
        "referral": tuple(_referral(name, c, level) for name, c in methods.items()),
    }


def _reliability(name: str, c: Classification, level: float) -> Curve:
    """Accuracy against confidence in the predicted class; empty bins are left out."""
    curve = reliability_curve(c.prediction.probs, c.y, n_bins=_BINS, level=level)
    used = curve.count > 0
    columns = (curve.confidence, curve.accuracy, curve.low, curve.high, curve.count)
    x, y, low, high, count = (tuple(column[used].tolist()) for column in columns)
    return Curve(name, x, y, low, high, count)


def _error_by_entropy(name: str, c: Classification, level: float) -> Curve:
    """Error rate against predictive entropy, in groups of equal size."""
    entropy = c.prediction.predictive_entropy
    groups = equal_groups(entropy.numpy())
    shares = [c.wrong[g].mean().item() for g in groups]
    intervals = [wilson_interval(s, len(g), level) for s, g in zip(shares, groups, strict=True)]
    low, high = zip(*intervals, strict=True)
    x = tuple(entropy[g].mean().item() for g in groups)
    return Curve(name, x, tuple(shares), low, high, tuple(len(g) for g in groups))


def _referral(name: str, c: Classification, level: float) -> Curve:
    """Error rate on the rows kept when the most uncertain share of them is referred."""
    order = torch.argsort(c.prediction.predictive_entropy, stable=True)
    kept_errors = c.wrong[order].cumsum(dim=0)
    n = len(order)
    kept = [n - round(share * n) for share in _REFERRED]
    kept = [count for count in kept if count > 0]
    shares = [(kept_errors[count - 1] / count).item() for count in kept]
    intervals = [wilson_interval(s, k, level) for s, k in zip(shares, kept, strict=True)]
    low, high = zip(*intervals, strict=True)
    return Curve(name, _REFERRED[: len(kept)], tuple(shares), low, high, tuple(kept))
