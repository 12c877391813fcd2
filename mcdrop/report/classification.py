"""Scores and figure points of a classification prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mcdrop.metrics import (
    CalibrationErrorTest,
    Estimate,
    ReliabilityCurve,
    brier_score,
    calibration_error_test,
    consistency_band,
    error_rate_curve,
    nll_categorical,
    reliability_curve,
    risk_coverage_curve,
    wilson_interval,
)
from mcdrop.prediction import ClassificationPrediction
from mcdrop.report.curves import Float64, group_number
from mcdrop.report.ece import calibration_error_estimate
from mcdrop.report.measures import Missing, NamedScores, Resampling, Score, Uncompared, as_scored
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
        resampling: Level and seed of intervals and draws.
    """

    prediction: ClassificationPrediction
    y: Tensor
    resampling: Resampling

    @property
    def wrong(self) -> Tensor:
        """1 where the most probable class is not the label, else 0; float64, (N,)."""
        return (self.prediction.labels != self.y).double()

    @property
    def confidence(self) -> Float64:
        """Probability of the most probable class, (N,)."""
        confidence: Float64 = self.prediction.confidence.clamp(max=1.0).numpy()
        return confidence

    @cached_property
    def reliability(self) -> ReliabilityCurve:
        """Accuracy in bins of confidence."""
        level = self.resampling.level
        return reliability_curve(self.prediction.probs, self.y, n_bins=_BINS, level=level)

    @cached_property
    def error(self) -> Estimate:
        """Expected calibration error."""
        null_high = self.error_test.null_high
        return calibration_error_estimate(self.reliability, null_high, self.resampling.seed)

    @property
    def debiased_error(self) -> float:
        """Expected calibration error minus its mean for a calibrated model, at least 0."""
        return max(0.0, self.error_test.excess)

    @cached_property
    def error_test(self) -> CalibrationErrorTest:
        """The expected calibration error against that of a calibrated model on these rows."""
        probs, level, seed = self.prediction.probs, self.resampling.level, self.resampling.seed
        return calibration_error_test(probs, self.y, n_bins=_BINS, level=level, seed=seed)


def classification_scores(c: Classification) -> NamedScores:
    """Score one prediction: every number of the table, or why it is missing."""
    p = c.prediction
    one_set = "one fixed set of weights has none" if p.n_samples == 0 else "needs several passes"
    return {
        "accuracy": Score(as_scored, (1 - c.wrong,), losses=c.wrong),
        "nll": _nll(c),
        "brier": Score.by_row(brier_score(p.probs, c.y)),
        "ece": Uncompared(c.error, _error_note(c)),
        "confidence": Score(as_scored, (p.confidence,)),
        "predictive_entropy": Score(as_scored, (p.predictive_entropy,)),
        "mutual_information": Score(as_scored, (p.mutual_information,))
        if p.n_samples > 1
        else Missing(one_set),
    }


def _error_note(c: Classification) -> str:
    """Say what a calibrated model would have, and the estimate without sampling noise."""
    null = c.error_test
    return (
        f"a calibrated model would have {100 * null.null_low:.2g} to {100 * null.null_high:.2g} % "
        f"on {null.n} rows; less their mean, the ECE is {100 * c.debiased_error:.2g} %"
    )


def _nll(c: Classification) -> Score | Missing:
    """Score the labels, unless one of them was given probability 0."""
    scores = torch.as_tensor(nll_categorical(c.prediction.probs, c.y))
    impossible = int(torch.isinf(scores).sum())
    if impossible:
        return Missing(f"infinite: the true class of {impossible} rows was given probability 0")
    return Score.by_row(scores)


def classification_curves(
    methods: Mapping[str, Classification], resampling: Resampling
) -> dict[str, tuple[FigureCurve, ...]]:
    """Points of every figure, one curve per method."""
    level = resampling.level
    return {
        "reliability": tuple(_reliability(name, c) for name, c in methods.items()),
        "error_by_entropy": tuple(_error_by_entropy(name, c, level) for name, c in methods.items()),
        "referral": tuple(_referral(name, c, level) for name, c in methods.items()),
    }


def _reliability(name: str, c: Classification) -> FigureCurve:
    """Accuracy against confidence in the predicted class; empty bins are left out."""
    curve = c.reliability
    used = curve.count > 0
    columns = (curve.confidence, curve.accuracy, curve.low, curve.high, curve.count)
    x, y, low, high, count = (tuple(column[used].tolist()) for column in columns)
    level, seed = c.resampling.level, c.resampling.seed
    band = consistency_band(c.prediction.probs, c.y, n_bins=_BINS, level=level, seed=seed)
    ends = (tuple(end[used].tolist()) for end in (band.low, band.high))
    return FigureCurve(name, x, y, low, high, count, *ends)


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
    # 91 points keep the page small; rows of equal entropy are referred together.
    wanted = np.linspace(1.0, 0.1, _REFERRAL_POINTS)
    index = np.unique(np.searchsorted(curve.coverage, wanted - 1e-9))[::-1]
    risks, kept = curve.risk[index].tolist(), np.rint(curve.coverage[index] * len(c.y))
    count = tuple(int(rows) for rows in kept)
    ends = wilson_interval(curve.risk[index] * kept, kept, level=level)
    low, high = (tuple(end.tolist()) for end in ends)
    return FigureCurve(
        name, tuple((1 - curve.coverage[index]).tolist()), tuple(risks), low, high, count
    )
