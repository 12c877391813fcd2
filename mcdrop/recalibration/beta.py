"""Beta calibration of the averaged class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.checks import require_fitted
from mcdrop.prediction import ClassificationPrediction
from mcdrop.recalibration._likelihood import FARTHEST, Floats, most_likely
from mcdrop.recalibration._matched import (
    labels_of,
    require_classes,
    require_classification,
    require_every_class,
)
from mcdrop.recalibration._mean_probs import with_mean_probs

__all__ = ["BetaScaling"]


class BetaScaling:
    """Three parameters for each class that bend its probability at both ends, one against the rest.

    For every class c, with p_c the average over passes,

        logit g_c(p) = a_c log p - b_c log(1 - p) + m_c,   a_c, b_c >= 0,

    is fitted by maximum likelihood to ``1[y = c]``; then p'_c = g_c(p_c) / sum_k g_k(p_k). The
    identity is a = b = 1, m = 0; a = b is temperature scaling of two classes with a shift; a and b
    apart treat small and large probabilities differently, which neither temperature nor a logistic
    curve can. With two classes the maps mirror each other and already sum to 1.

    Three parameters cost about 3 / (2 n) nats of log-likelihood on new rows, so that a hundred rows
    go far where `IsotonicRecalibration` needs a thousand. Labels may change. Expected entropy and
    mutual information stay the same fractions of the predictive entropy, ``probs_std`` and ``mcse``
    the same fractions of sqrt(p (1 - p)), `variation_ratio` is unchanged, and `samples` is None.

    Source:
        Kull, Silva Filho & Flach (2017), "Beta calibration", section 3.

    Example:
        >>> p = ClassificationPrediction(
        ...     probs=torch.tensor([[0.9, 0.1]]).repeat(4, 1), probs_std=torch.zeros(4, 2),
        ...     expected_entropy=torch.zeros(4), variation_ratio=torch.zeros(4),
        ...     mcse=torch.zeros(4, 2), n_samples=0)
        >>> BetaScaling().fit(p, [0, 0, 0, 1])(p).probs[0]  # right 3 times in 4, not 9 in 10
        tensor([0.7500, 0.2500])
    """

    def __init__(self) -> None:
        self._parameters: Floats | None = None

    @property
    def parameters(self) -> Tensor:
        """a, b and m of each class, (C, 3), float64."""
        found = require_fitted("BetaScaling.parameters", self._parameters, "prediction, y")
        return torch.from_numpy(found.copy())

    def fit(self, prediction: ClassificationPrediction, y: Any) -> BetaScaling:
        """Fit the map of each class on held-out rows, and return the scaler.

        Args:
            prediction: For rows that the model was not trained on.
            y: Labels, whole numbers, shape (N, ...).

        Raises:
            UnsupportedError: If `prediction` is not a plain ClassificationPrediction.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a class never occurs, or a class is separated from the others without
                error, so that no map is the most likely one.
        """
        function = "BetaScaling.fit"
        require_classification(function, prediction)
        labels = labels_of(function, prediction, y).flatten().cpu().numpy()
        features = _features(prediction.probs)
        require_every_class(function, labels, len(features))
        self._parameters = np.stack(
            [_fitted(function, x, (labels == c).astype(float)) for c, x in enumerate(features)]
        )
        return self

    def __call__(self, prediction: ClassificationPrediction) -> ClassificationPrediction:
        """Return the prediction with recalibrated probabilities.

        Args:
            prediction: Any rows, with the classes of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            ShapeError: If the classes differ from those of the fit.
        """
        from scipy.special import expit

        function = "BetaScaling"
        parameters = require_fitted(function, self._parameters, "prediction, y")
        require_classification(function, prediction)
        require_classes(function, prediction, len(parameters))
        mapped = expit(np.einsum("cnk,ck->cn", _features(prediction.probs), parameters))
        shape = prediction.probs.movedim(1, 0).shape
        new = torch.from_numpy(mapped / mapped.sum(axis=0)).to(prediction.probs.device)
        return with_mean_probs(prediction, new.reshape(shape).movedim(0, 1))


def _features(probs: Tensor) -> Floats:
    """Return log p, -log(1 - p) and 1 for every class and row, (C, N, 3)."""
    # Away from 0 and 1 by what the dtype can tell from them: both logarithms stay finite.
    edge = torch.finfo(probs.dtype).eps
    p = probs.double().clamp(edge, 1 - edge).movedim(1, 0).flatten(1).cpu().numpy()
    features: Floats = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=-1)
    return features


def _fitted(function: str, features: Floats, hit: Floats) -> Floats:
    """Return a, b and m of one class."""
    from scipy.special import expit

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logit = features @ parameters
        gradient = features.T @ (expit(logit) - hit) / len(hit)
        return float(np.mean(np.logaddexp(0, logit) - hit * logit)), gradient

    return most_likely(function, loss, [1.0, 1.0, 0.0], [0.0, 0.0, -FARTHEST])
