"""Corrections fitted on held-out rows: a prediction goes in, a calibrated prediction comes out."""

from mcdrop.recalibration.conformal_classification import (
    ConformalClassificationPrediction,
    ConformalClassifier,
)
from mcdrop.recalibration.conformal_regression import (
    ConformalRegressionPrediction,
    ConformalRegressor,
)
from mcdrop.recalibration.isotonic import IsotonicRecalibration
from mcdrop.recalibration.quantile import QuantileRecalibration
from mcdrop.recalibration.quantile_prediction import QuantileRecalibratedPrediction
from mcdrop.recalibration.std_scaling import StdScaling
from mcdrop.recalibration.temperature import TemperatureScaling

__all__ = [
    "ConformalClassificationPrediction",
    "ConformalClassifier",
    "ConformalRegressionPrediction",
    "ConformalRegressor",
    "IsotonicRecalibration",
    "QuantileRecalibratedPrediction",
    "QuantileRecalibration",
    "StdScaling",
    "TemperatureScaling",
]
