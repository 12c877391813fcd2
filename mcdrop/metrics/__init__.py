"""Proper scores, calibration, selective prediction and out-of-distribution measures."""

from mcdrop.metrics.bootstrap import bootstrap, paired_bootstrap
from mcdrop.metrics.brier import BrierDecomposition, brier_decomposition
from mcdrop.metrics.calibration import (
    expected_calibration_error,
    kolmogorov_smirnov_calibration_error,
    maximum_calibration_error,
)
from mcdrop.metrics.calibration_tests import (
    CalibrationTest,
    calibration_test,
    confidence_test,
    holm,
)
from mcdrop.metrics.classification import accuracy, brier_score, nll_categorical
from mcdrop.metrics.consistency import (
    CalibrationErrorTest,
    ConsistencyBand,
    calibration_error_test,
    consistency_band,
)
from mcdrop.metrics.crps import crps_ensemble, crps_normal, energy_score
from mcdrop.metrics.crps_forms import crps_mixture, threshold_weighted_crps
from mcdrop.metrics.error_rate import ErrorRateCurve, entropy_calibration_error, error_rate_curve
from mcdrop.metrics.estimate import Estimate
from mcdrop.metrics.intervals import coverage, interval_score, interval_width, pinball_loss
from mcdrop.metrics.means import mean_difference, mean_interval
from mcdrop.metrics.ood import fpr_at_tpr, ood_aupr, ood_auroc
from mcdrop.metrics.pit import pit, pit_mixture, pit_normal
from mcdrop.metrics.quantile_calibration import (
    QuantileCalibrationCurve,
    quantile_calibration_curve,
    quantile_calibration_error,
    tail_calibration_error,
)
from mcdrop.metrics.ranking import ranking_test
from mcdrop.metrics.regression import mae, nll_mixture, nll_normal, rmse, sharpness
from mcdrop.metrics.regression_tests import (
    bias_test,
    coverage_test,
    shape_test,
    width_test,
)
from mcdrop.metrics.reliability import ReliabilityCurve, reliability_curve
from mcdrop.metrics.selective import (
    RiskCoverageCurve,
    augrc,
    aurc,
    risk_coverage_curve,
    selective_risk,
)
from mcdrop.metrics.shares import share_difference, share_interval, wilson_interval
from mcdrop.metrics.significance import HypothesisTest, pit_uniformity_test, spiegelhalter_test
from mcdrop.metrics.smooth import smooth_calibration_error
from mcdrop.metrics.sparsification import SparsificationCurve, ause, sparsification_curve
from mcdrop.metrics.spread import (
    expected_normalized_calibration_error,
    uncertainty_calibration_error,
)
from mcdrop.metrics.streaming import Streaming
from mcdrop.metrics.tempered import calibrated_nll

__all__ = [
    "BrierDecomposition",
    "CalibrationErrorTest",
    "CalibrationTest",
    "ConsistencyBand",
    "ErrorRateCurve",
    "Estimate",
    "HypothesisTest",
    "QuantileCalibrationCurve",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "SparsificationCurve",
    "Streaming",
    "accuracy",
    "augrc",
    "aurc",
    "ause",
    "bias_test",
    "bootstrap",
    "brier_decomposition",
    "brier_score",
    "calibrated_nll",
    "calibration_error_test",
    "calibration_test",
    "confidence_test",
    "consistency_band",
    "coverage",
    "coverage_test",
    "crps_ensemble",
    "crps_mixture",
    "crps_normal",
    "energy_score",
    "entropy_calibration_error",
    "error_rate_curve",
    "expected_calibration_error",
    "expected_normalized_calibration_error",
    "fpr_at_tpr",
    "holm",
    "interval_score",
    "interval_width",
    "kolmogorov_smirnov_calibration_error",
    "mae",
    "maximum_calibration_error",
    "mean_difference",
    "mean_interval",
    "nll_categorical",
    "nll_mixture",
    "nll_normal",
    "ood_aupr",
    "ood_auroc",
    "paired_bootstrap",
    "pinball_loss",
    "pit",
    "pit_mixture",
    "pit_normal",
    "pit_uniformity_test",
    "quantile_calibration_curve",
    "quantile_calibration_error",
    "ranking_test",
    "reliability_curve",
    "risk_coverage_curve",
    "rmse",
    "selective_risk",
    "shape_test",
    "share_difference",
    "share_interval",
    "sharpness",
    "smooth_calibration_error",
    "sparsification_curve",
    "spiegelhalter_test",
    "tail_calibration_error",
    "threshold_weighted_crps",
    "uncertainty_calibration_error",
    "width_test",
    "wilson_interval",
]
