"""Corrections fitted on held-out rows: a prediction goes in, a calibrated prediction comes out."""

from mcdrop.recalibration.beta import BetaScaling
from mcdrop.recalibration.conformal_classification import (
    ConformalClassificationPrediction,
    ConformalClassifier,
)
from mcdrop.recalibration.conformal_regression import (
    ConformalRegressionPrediction,
    ConformalRegressor,
)
from mcdrop.recalibration.cross_conformal import (
    CrossConformalPrediction,
    CrossConformalRegressor,
)
from mcdrop.recalibration.isotonic import IsotonicRecalibration
from mcdrop.recalibration.quantile import QuantileRecalibration
from mcdrop.recalibration.quantile_prediction import QuantileRecalibratedPrediction
from mcdrop.recalibration.std_scaling import StdScaling
from mcdrop.recalibration.temperature import TemperatureScaling
from mcdrop.recalibration.vector import VectorScaling
from mcdrop.recalibration.weighted import (
    WeightedConformalPrediction,
    WeightedConformalRegressor,
)

__all__ = [
    "BetaScaling",
    "ConformalClassificationPrediction",
    "ConformalClassifier",
    "ConformalRegressionPrediction",
    "ConformalRegressor",
    "CrossConformalPrediction",
    "CrossConformalRegressor",
    "IsotonicRecalibration",
    "QuantileRecalibratedPrediction",
    "QuantileRecalibration",
    "StdScaling",
    "TemperatureScaling",
    "VectorScaling",
    "WeightedConformalPrediction",
    "WeightedConformalRegressor",
]
