"""What comes out of a prediction."""

from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.files import load_prediction
from mcdrop.prediction.noise import fit_noise_std, noise_std_from_weight_decay
from mcdrop.prediction.regression import RegressionPrediction

__all__ = [
    "ClassificationPrediction",
    "RegressionPrediction",
    "fit_noise_std",
    "load_prediction",
    "noise_std_from_weight_decay",
]
