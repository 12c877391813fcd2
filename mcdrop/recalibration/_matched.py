"""A prediction of the right type with finite targets for the same rows, or an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.checks import require_finite, require_rows
from mcdrop.errors import OutputError, RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.targets import aligned_targets, class_labels


def require_regression(function: str, prediction: object, *, plain: bool = True) -> None:
    """Require a regression; `plain` refuses one whose intervals no longer follow its fields."""
    _require_type(function, prediction, RegressionPrediction, plain)


def require_classification(function: str, prediction: object, *, plain: bool = True) -> None:
    """Require a classification; `plain` refuses one that already carries prediction sets."""
    _require_type(function, prediction, ClassificationPrediction, plain)


def _require_type(function: str, prediction: object, wanted: type[Prediction], plain: bool) -> None:
    if type(prediction) is wanted or (isinstance(prediction, wanted) and not plain):
        return
    remedy = "Use a recalibration made for the task of this prediction"
    if isinstance(prediction, wanted):
        remedy = "Let this correction come first and the one that the prediction carries last"
    elif not isinstance(prediction, Prediction):
        remedy = "Pass what predict_with_uncertainty returns"
    found = type(prediction).__name__
    raise UnsupportedError.of(function, "prediction", f"be a {wanted.__name__}", found, remedy)


def require_row_shape(function: str, values: Tensor, row: torch.Size) -> None:
    """Require the outputs of the fit."""
    if values.shape[1:] != row:
        raise ShapeError.of(
            function,
            "prediction",
            f"have rows of shape {tuple(row)}, as in the fit",
            tuple(values.shape[1:]),
            "Predict the outputs that the calibration rows had",
        )


def require_classes(function: str, prediction: ClassificationPrediction, n_classes: int) -> None:
    """Require the number of classes of the fit."""
    found = prediction.probs.shape[1]
    if found != n_classes:
        raise ShapeError.of(
            function,
            "prediction",
            f"have {n_classes} classes, as in the fit",
            found,
            "Predict the classes that the calibration rows had",
        )


def require_every_class(function: str, labels: npt.NDArray[np.int64], n_classes: int) -> None:
    """Require a row of each class, without which its own parameters have no data."""
    absent = sorted(set(range(n_classes)) - set(labels.tolist()))
    if absent:
        raise RangeError.of(
            function,
            "y",
            "hold every class at least once",
            f"no row of class {', '.join(map(str, absent[:10]))}",
            "Calibrate on more rows, or use TemperatureScaling, which needs no row per class",
        )


def require_density(function: str, prediction: RegressionPrediction) -> None:
    """Require a density: the passes of a mixture, and spread everywhere."""
    spread = prediction.variance
    if prediction.family == "mixture":
        if prediction.samples is None:
            raise OutputError.of(
                function,
                "prediction",
                "hold samples, because its distribution is the mixture over passes",
                "None",
                "Predict with keep_samples=True, or recalibrate prediction.as_normal()",
            )
        spread = prediction._component_variances()
    if not bool((spread > 0).all()):
        raise RangeError.of(
            function,
            "prediction",
            "have observation noise, without which its distribution has no density",
            "a variance of 0 in some rows",
            "Predict with noise_std= (units of y), or recalibrate prediction.as_normal()",
        )


def targets_of(function: str, prediction: RegressionPrediction, y: Any) -> Tensor:
    """Return float64 targets in the shape of the mean; one row at least, both finite."""
    target = aligned_targets(function, y, prediction.mean, index=prediction.index)
    require_rows(function, "y", target)
    require_finite(function, y=target, prediction=prediction.mean.double())
    return target


def labels_of(function: str, prediction: ClassificationPrediction, y: Any) -> Tensor:
    """Return int64 labels, (N, ...), each a class of the prediction; one row at least."""
    labels = class_labels(function, y, prediction.probs, index=prediction.index)
    require_rows(function, "y", labels)
    require_finite(function, prediction=prediction.probs.double())
    return labels
