"""A classification prediction beside its labels: errors, confidence, calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mcdrop.displays._curve import Float64
from mcdrop.displays._draws import Draws
from mcdrop.displays._ece import calibration_error_estimate
from mcdrop.metrics import (
    CalibrationErrorTest,
    Estimate,
    ReliabilityCurve,
    calibration_error_test,
    reliability_curve,
)
from mcdrop.prediction import ClassificationPrediction

__all__ = ["Classification"]

# Bins of the expected calibration error, of equal width: Guo et al. (2017).
_BINS = 15


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
    resampling: Draws

    @property
    def wrong(self) -> Tensor:
        """1 where the most probable class is not the label, else 0; float64, (N,)."""
        return (self.prediction.labels != self.y).double()

    @property
    def confidence(self) -> Float64:
        """Probability of the most probable class, (N,)."""
        confidence: Float64 = self.prediction.confidence.clamp(max=1.0).numpy()
        return confidence

    @property
    def uncertainty(self) -> Float64:
        """Predictive entropy of each row, (N,), nats."""
        entropy: Float64 = self.prediction.predictive_entropy.numpy()
        return entropy

    @cached_property
    def reliability(self) -> ReliabilityCurve:
        """Accuracy in bins of confidence of equal width, as the expected calibration error has."""
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
