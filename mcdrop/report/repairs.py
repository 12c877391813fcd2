"""What recalibration would bring, measured on rows that it was not fitted on.

The rows are split into five folds. Each fold is predicted by a recalibration that was fitted on the
other four, so that every row is scored once and none by a fit that saw it (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.displays._classification import Classification
from mcdrop.displays._matching import matched_classification, matched_regression
from mcdrop.displays._regression import Regression
from mcdrop.errors import McdropError
from mcdrop.metrics._arrays import tensor_of
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.recalibration import (
    QuantileRecalibration,
    StdScaling,
    TemperatureScaling,
    VectorScaling,
)
from mcdrop.report.classification import classification_scores
from mcdrop.report.measures import NamedScores, Resampling, Score
from mcdrop.report.regression import regression_scores
from mcdrop.report.values import Repair

__all__ = ["FOLDS", "LEAST_ROWS", "repairs"]

FOLDS = 5
# Fewer rows would leave less than 40 to fit and 10 to score.
LEAST_ROWS = 50
# Vector scaling fits 2 C numbers: as many rows to each as a temperature has at the least.
_ROWS_PER_CLASS = 2 * 40


def repairs(judged: Classification | Regression, resampling: Resampling) -> tuple[Repair, ...]:
    """Return the cross-fitted scores of each recalibration that can be fitted to a prediction."""
    n = len(judged.y)
    if n < LEAST_ROWS:
        return ()
    order = np.random.default_rng([resampling.seed, 6]).permutation(n)
    folds = [np.sort(fold) for fold in np.array_split(order, FOLDS)]
    if isinstance(judged, Classification):
        before = classification_scores(judged)
    else:
        before = regression_scores(judged)
    found = []
    for name, fitted in _candidates(judged).items():
        try:
            after = _cross_fitted(judged, fitted, folds)
        except McdropError:  # such as a mixture without samples, or an output hit exactly
            continue
        differences = resampling.differences(after, before)
        found.append(Repair(name, resampling.estimates(after), differences))
    return tuple(found)


Fitted = Callable[[Any, Tensor], Callable[[Any], Any]]


def _candidates(judged: Classification | Regression) -> dict[str, Fitted]:
    """Return what fits each recalibration, by name."""
    if isinstance(judged, Classification):
        found: dict[str, Fitted] = {
            "TemperatureScaling": lambda p, y: TemperatureScaling().fit(p, y)
        }
        if len(judged.y) >= _ROWS_PER_CLASS * judged.prediction.probs.shape[1]:
            found["VectorScaling"] = lambda p, y: VectorScaling().fit(p, y)
        return found
    if not judged.has_spread or judged.has_own_intervals:
        return {}
    return {
        "StdScaling": lambda p, y: StdScaling().fit(p, y),
        "QuantileRecalibration": lambda p, y: QuantileRecalibration().fit(p, y),
    }


def _cross_fitted(
    judged: Classification | Regression, fitted: Fitted, folds: list[np.ndarray[Any, Any]]
) -> NamedScores:
    """Score every fold by a recalibration fitted on the others."""
    if isinstance(judged, Classification):
        return _cross_fitted_classes(judged, fitted, folds)
    prediction: RegressionPrediction = judged.prediction
    if judged.passes is None or not judged.has_noise:
        prediction = prediction.as_normal()
    scored: dict[str, list[Score]] = {}
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(judged.y)), fold)
        changed = fitted(prediction[rest], judged.y[rest])(prediction[fold])
        part = matched_regression({"A": changed}, judged.y[fold], judged.resampling)["A"]
        for key, score in regression_scores(part).items():
            if isinstance(score, Score):
                scored.setdefault(key, []).append(score)
    order = np.argsort(np.concatenate(folds))
    return {key: _joined(parts, order) for key, parts in scored.items() if len(parts) == len(folds)}


def _cross_fitted_classes(
    judged: Classification, fitted: Fitted, folds: list[np.ndarray[Any, Any]]
) -> NamedScores:
    """Put the recalibrated probabilities of all folds together and score them."""
    prediction = replace(judged.prediction, samples=None)
    probs = torch.empty_like(prediction.probs)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(judged.y)), fold)
        probs[fold] = fitted(prediction[rest], judged.y[rest])(prediction[fold]).probs.double()
    zero = torch.zeros_like(probs)
    changed = ClassificationPrediction(
        probs=probs,
        probs_std=zero,
        expected_entropy=-torch.special.xlogy(probs, probs).sum(dim=1),
        variation_ratio=zero[:, 0],
        mcse=zero,
        n_samples=0,
    )
    part = matched_classification({"A": changed}, judged.y, judged.resampling)["A"]
    return classification_scores(part)


def _joined(parts: list[Score], order: np.ndarray[Any, Any]) -> Score:
    """Return one score over the rows of all parts, in the order of the rows."""
    columns = zip(*(part.arrays for part in parts), strict=True)
    arrays = tuple(torch.cat([tensor_of(piece) for piece in column])[order] for column in columns)
    return Score(parts[0].metric, arrays, parts[0].note)
