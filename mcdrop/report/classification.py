"""Scores and figure points of a classification prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mcdrop.metrics import (
    accuracy,
    brier_score,
    error_rate_curve,
    expected_calibration_error,
    nll_categorical,
    reliability_curve,
    risk_coverage_curve,
)
from mcdrop.prediction import ClassificationPrediction
from mcdrop.report.curves import group_number, wilson_interval
from mcdrop.report.measures import Missing, NamedScores, Resampling, Score, as_scored
from mcdrop.report.values import FigureCurve

__all__ = ["Classification", "classification_curves", "classification_scores"]

_BINS = 15
_REFERRAL_POINTS = 91


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


def classification_scores(c: Classification) -> NamedScores:
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
) -> dict[str, tuple[FigureCurve, ...]]:
    """Points of every figure, one curve per method."""
    level = resampling.level
    return {
        "reliability": tuple(_reliability(name, c, level) for name, c in methods.items()),
        "error_by_entropy": tuple(_error_by_entropy(name, c, level) for name, c in methods.items()),
        "referral": tuple(_referral(name, c, level) for name, c in methods.items()),
    }


def _reliability(name: str, c: Classification, level: float) -> FigureCurve:
    """Accuracy against confidence in the predicted class; empty bins are left out."""
    curve = reliability_curve(c.prediction.probs, c.y, n_bins=_BINS, level=level)
    used = curve.count > 0
    columns = (curve.confidence, curve.accuracy, curve.low, curve.high, curve.count)
    x, y, low, high, count = (tuple(column[used].tolist()) for column in columns)
    return FigureCurve(name, x, y, low, high, count)


def _error_by_entropy(name: str, c: Classification, level: float) -> FigureCurve:
    """Error rate against predictive entropy, in groups of equal size."""
    entropy = c.prediction.predictive_entropy
    curve = error_rate_curve(entropy, c.wrong, n_bins=group_number(len(entropy)), level=level)
    columns = (curve.uncertainty, curve.error_rate, curve.low, curve.high, curve.count)
    x, y, low, high, count = (tuple(column.tolist()) for column in columns)
    return FigureCurve(name, x, y, low, high, count)


def _referral(name: str, c: Classification, level: float) -> FigureCurve:
    """Error rate on the rows kept when the most uncertain share of them is referred."""
    curve = risk_coverage_curve(c.prediction.predictive_entropy, loss=c.wrong)
    # Few enough points for a page; rows of equal entropy are referred together.
    wanted = np.linspace(1.0, 0.1, _REFERRAL_POINTS)
    index = np.unique(np.searchsorted(curve.coverage, wanted - 1e-9))[::-1]
    risks, kept = curve.risk[index].tolist(), np.rint(curve.coverage[index] * len(c.y))
    count = tuple(int(rows) for rows in kept)
    intervals = [wilson_interval(r, rows, level) for r, rows in zip(risks, count, strict=True)]
    low, high = zip(*intervals, strict=True)
    return FigureCurve(
        name, tuple((1 - curve.coverage[index]).tolist()), tuple(risks), low, high, count
    )
