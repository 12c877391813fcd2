"""Whether uncertainty rises on a second data set, such as rows from elsewhere or from later."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mcdrop.checks import require_finite
from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Float64
from mcdrop.displays._regression import Regression
from mcdrop.errors import UnsupportedError
from mcdrop.metrics import share_interval
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.report.detection import error_auroc
from mcdrop.report.values import Shift

__all__ = ["shift_of"]

_FUNCTION = "calibration_report"
_QUANTILE = 0.95


def shift_of(judged: Classification | Regression, shifted: object, name: str) -> Shift:
    """Compare the uncertainty of a second data set, without targets, with that of the test rows.

    Raises:
        UnsupportedError: If the second prediction is of another type.
        NonFiniteError: If it holds NaN or infinity.
    """
    here, there = judged.uncertainty, _uncertainty(judged, shifted)
    both = np.concatenate([here, there])
    outside = np.concatenate([np.zeros(len(here)), np.ones(len(there))])
    auroc = error_auroc(both, outside, judged.resampling)
    if auroc is None:
        raise TypeError("both data sets have rows")
    above = share_interval(
        (there > np.quantile(here, _QUANTILE)).astype(float), level=judged.resampling.level
    )
    return Shift(name, len(there), auroc, float(here.mean()), float(there.mean()), above)


def _uncertainty(judged: Classification | Regression, shifted: object) -> Float64:
    """Return the uncertainty of each row of the second prediction."""
    found: Tensor
    if isinstance(judged, Classification) and isinstance(shifted, ClassificationPrediction):
        found = shifted.predictive_entropy.double().cpu().reshape(len(shifted), -1).mean(dim=1)
    elif isinstance(judged, Regression) and isinstance(shifted, RegressionPrediction):
        found = shifted.std.double().cpu().reshape(len(shifted), -1).mean(dim=1)
    else:
        kind = type(judged.prediction).__name__
        raise UnsupportedError.of(
            _FUNCTION,
            "shifted",
            f"be a {kind}, as the prediction is",
            type(shifted).__name__,
            "Predict the second data set with the same method",
        )
    require_finite(_FUNCTION, axis=0, **{"uncertainty of shifted": found})
    values: Float64 = found.numpy()
    return values
