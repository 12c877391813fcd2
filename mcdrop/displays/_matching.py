"""What a report accepts: predictions of one type and targets for the same rows.

Everything becomes float64 on the CPU, regression outputs (N, D), labels int64 (N,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mcdrop.checks import checked_mapping, require_finite
from mcdrop.displays._classification import Classification
from mcdrop.displays._draws import Draws
from mcdrop.displays._regression import Regression
from mcdrop.errors import RangeError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.given import given_mean, given_probs
from mcdrop.prediction.targets import aligned_targets, class_labels, require_same_rows, row_index

__all__ = [
    "matched_classification",
    "matched_regression",
    "require_comparable",
    "require_rows",
    "taken_baselines",
]

_FUNCTION = "calibration_report"


def taken_baselines(prediction: object, baselines: Mapping[str, object] | None) -> dict[str, Any]:
    """Take bare arrays as point forecasts, or as class probabilities."""
    taken: dict[str, Any] = {}
    for name, other in checked_mapping(_FUNCTION, "baselines", baselines).items():
        argument = f'baselines["{name}"]'
        if isinstance(other, Prediction):
            taken[name] = other
        elif isinstance(prediction, ClassificationPrediction):
            probs = given_probs(_FUNCTION, argument, other)
            found: Prediction = ClassificationPrediction.from_probs(probs)
            taken[name] = replace(found, index=row_index(other))
        else:
            mean = given_mean(_FUNCTION, argument, other)
            found = RegressionPrediction.from_point(mean)
            taken[name] = replace(found, index=row_index(other))
    return taken


def require_rows(function: str, prediction: Prediction) -> None:
    """Refuse a prediction for a single row, or for none."""
    if len(prediction) < 2:
        raise ShapeError.of(
            function, "prediction", "hold at least 2 rows", len(prediction), "Pass a test set"
        )


def require_comparable(prediction: object, baselines: Mapping[str, object], name: str) -> None:
    """Refuse other types than predictions, baselines that do not match, and equal names."""
    if not isinstance(prediction, RegressionPrediction | ClassificationPrediction):
        raise UnsupportedError.of(
            _FUNCTION,
            "prediction",
            "be a RegressionPrediction or a ClassificationPrediction",
            type(prediction).__name__,
            "Pass what predict_with_uncertainty returns",
        )
    require_rows(_FUNCTION, prediction)
    if name in baselines:
        raise RangeError.of(
            _FUNCTION,
            "baselines",
            "have names other than the main method's",
            repr(name),
            "Rename the baseline, or pass name=",
        )
    for baseline, other in baselines.items():
        _require_like(prediction, other, f'baselines["{baseline}"]')


def _require_like(prediction: Prediction, other: object, argument: str) -> None:
    """Refuse a baseline that does not predict the same rows and values."""
    regression = isinstance(prediction, RegressionPrediction)
    base = RegressionPrediction if regression else ClassificationPrediction
    kind = base.__name__
    if not isinstance(other, base):
        raise UnsupportedError.of(
            _FUNCTION,
            argument,
            f"be a {kind}, as the prediction is",
            type(other).__name__,
            "Compare predictions of the same task",
        )
    wanted, found = _values(prediction), _values(other)
    same_rows = wanted.shape[0] == found.shape[0]
    if not same_rows or wanted.numel() != found.numel():
        raise ShapeError.of(
            _FUNCTION,
            argument,
            f"have shape {tuple(wanted.shape)} to match `prediction`",
            tuple(found.shape),
            "Predict the same rows with every method",
        )
    require_same_rows(_FUNCTION, argument, other.index, prediction.index)


def _values(prediction: Prediction) -> Tensor:
    """Return what is predicted: the mean or the class probabilities."""
    if isinstance(prediction, RegressionPrediction):
        return prediction.mean
    if isinstance(prediction, ClassificationPrediction):
        return prediction.probs
    raise TypeError(type(prediction).__name__)


def matched_regression(
    predictions: Mapping[str, RegressionPrediction],
    y: Any,
    resampling: Draws,
    *,
    function: str = _FUNCTION,
    argument: str = "y",
) -> dict[str, Regression]:
    """Pair each prediction with the targets, as (N, D)."""
    first = next(iter(predictions.values()))
    target = aligned_targets(function, y, first.mean, argument=argument, index=first.index).cpu()
    require_finite(function, axis=0, **{argument: target})
    target = target.reshape(len(target), -1)
    return {
        name: Regression(_as_matrix(function, prediction, name), target, resampling)
        for name, prediction in predictions.items()
    }


def _as_matrix(function: str, prediction: RegressionPrediction, name: str) -> RegressionPrediction:
    """Return the prediction as float64 (N, D) on the CPU."""
    require_finite(function, axis=0, **{f"mean of {name}": prediction.mean})
    require_finite(function, axis=0, **{f"variance of {name}": prediction.variance})
    n = len(prediction)

    def by_row(values: Tensor) -> Tensor:
        return values.cpu().double().reshape(n, -1)

    def by_pass(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.cpu().double().reshape(len(values), n, -1)

    return replace(
        prediction,
        mean=by_row(prediction.mean),
        epistemic_variance=by_row(prediction.epistemic_variance),
        aleatoric_variance=by_row(prediction.aleatoric_variance),
        mcse=by_row(prediction.mcse),
        std_mcse=None if prediction.std_mcse is None else by_row(prediction.std_mcse),
        samples=by_pass(prediction.samples),
        sample_variances=by_pass(prediction.sample_variances),
    )


def matched_classification(
    predictions: Mapping[str, ClassificationPrediction],
    y: Any,
    resampling: Draws,
    *,
    function: str = _FUNCTION,
    argument: str = "y",
) -> dict[str, Classification]:
    """Pair each prediction with the labels, (N,)."""
    first = next(iter(predictions.values()))
    if first.probs.ndim != 2:
        raise ShapeError.of(
            function,
            "prediction",
            "have class probabilities of shape (N, C)",
            tuple(first.probs.shape),
            "Judge one pixel of each image at a time",
        )
    labels = class_labels(function, y, first.probs, argument=argument, index=first.index).cpu()
    for name, prediction in predictions.items():
        require_finite(function, axis=0, **{f"probs of {name}": prediction.probs})
    return {
        name: Classification(_widened(prediction), labels, resampling)
        for name, prediction in predictions.items()
    }


def _widened(prediction: ClassificationPrediction) -> ClassificationPrediction:
    """Return the prediction as float64 on the CPU; its samples, which are large, as they are."""
    narrow = replace(prediction, samples=None)
    return replace(narrow._map(lambda _, values: values.cpu().double()), samples=prediction.samples)
