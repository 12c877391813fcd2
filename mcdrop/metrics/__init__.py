"""Proper scores, calibration, selective prediction and out-of-distribution measures."""

from mcdrop.metrics.bootstrap import Estimate, bootstrap, paired_bootstrap
from mcdrop.metrics.calibration import expected_calibration_error
from mcdrop.metrics.classification import accuracy, brier_score, nll_categorical
from mcdrop.metrics.crps import crps_ensemble, crps_normal, energy_score
from mcdrop.metrics.intervals import coverage, interval_score, interval_width, pinball_loss
from mcdrop.metrics.regression import mae, nll_mixture, nll_normal, rmse, sharpness
from mcdrop.metrics.reliability import ReliabilityCurve, reliability_curve

__all__ = [
    "Estimate",
    "ReliabilityCurve",
    "accuracy",
    "bootstrap",
    "brier_score",
    "coverage",
    "crps_ensemble",
    "crps_normal",
    "energy_score",
    "expected_calibration_error",
    "interval_score",
    "interval_width",
    "mae",
    "nll_categorical",
    "nll_mixture",
    "nll_normal",
    "paired_bootstrap",
    "pinball_loss",
    "reliability_curve",
    "rmse",
    "sharpness",
]
