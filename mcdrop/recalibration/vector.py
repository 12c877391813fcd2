"""Vector scaling of the averaged class probabilities."""

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

__all__ = ["VectorScaling"]


class VectorScaling:
    """A factor and a shift for the log-probability of each class, fitted by maximum likelihood.

    ``p' = softmax(w * log p + b)`` with p the average over passes, one w_c and one b_c per class,
    the b_c of sum 0. Equal w_c and b = 0 are `TemperatureScaling`; apart from it, b corrects
    classes that are predicted too often and w_c classes that are over- or underconfident by
    themselves. Logits are known up to a constant per row only: log p stands for them.

    2 C - 1 parameters cost about (2 C - 1) / (2 n) nats of log-likelihood on new rows. Labels may
    change. Expected entropy and mutual information stay the same fractions of the predictive
    entropy, ``probs_std`` and ``mcse`` the same fractions of sqrt(p (1 - p)), `variation_ratio` is
    unchanged, and `samples` is None.

    Source:
        Guo et al. (2017), "On calibration of modern neural networks", section 4.2.

    Example:
        >>> p = ClassificationPrediction(
        ...     probs=torch.tensor([[0.9, 0.1]]).repeat(4, 1), probs_std=torch.zeros(4, 2),
        ...     expected_entropy=torch.zeros(4), variation_ratio=torch.zeros(4),
        ...     mcse=torch.zeros(4, 2), n_samples=0)
        >>> VectorScaling().fit(p, [0, 0, 0, 1])(p).probs[0]  # right 3 times in 4, not 9 in 10
        tensor([0.7500, 0.2500])
    """

    def __init__(self) -> None:
        self._parameters: Floats | None = None

    @property
    def factors(self) -> Tensor:
        """W of each class, (C,), float64."""
        found = require_fitted("VectorScaling.factors", self._parameters, "prediction, y")
        return torch.from_numpy(found[0].copy())

    @property
    def shifts(self) -> Tensor:
        """B of each class, (C,), float64, of sum 0."""
        found = require_fitted("VectorScaling.shifts", self._parameters, "prediction, y")
        return torch.from_numpy(found[1].copy())

    def fit(self, prediction: ClassificationPrediction, y: Any) -> VectorScaling:
        """Find the factors and shifts on held-out rows, and return the scaler.

        Args:
            prediction: For rows that the model was not trained on.
            y: Labels, whole numbers, shape (N, ...).

        Raises:
            UnsupportedError: If `prediction` is not a plain ClassificationPrediction.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a class never occurs, or every label is told without error, so that no
                parameters are the most likely ones.
        """
        function = "VectorScaling.fit"
        require_classification(function, prediction)
        labels = labels_of(function, prediction, y).flatten().cpu().numpy()
        logits = _logits(prediction.probs).movedim(1, -1).flatten(0, -2).cpu().numpy()
        n_classes = logits.shape[1]
        require_every_class(function, labels, n_classes)
        hit = np.eye(n_classes)[labels]

        def loss(flat: Floats) -> tuple[float, Floats]:
            factors, shifts = flat.reshape(2, n_classes)
            scaled = factors * logits + shifts
            top = scaled.max(axis=1, keepdims=True)
            log_total = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True)) + top
            excess = (np.exp(scaled - log_total) - hit) / len(hit)
            gradient = np.concatenate([(excess * logits).sum(axis=0), excess.sum(axis=0)])
            return float((log_total - scaled)[hit > 0].mean()), gradient

        start = np.repeat([1.0, 0.0], n_classes)
        found = most_likely(function, loss, start, [-FARTHEST] * len(start)).reshape(2, -1)
        # A common shift cancels in the softmax.
        self._parameters = np.stack([found[0], found[1] - found[1].mean()])
        return self

    def __call__(self, prediction: ClassificationPrediction) -> ClassificationPrediction:
        """Return the prediction with recalibrated probabilities.

        Args:
            prediction: Any rows, with the classes of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            ShapeError: If the classes differ from those of the fit.
        """
        function = "VectorScaling"
        parameters = require_fitted(function, self._parameters, "prediction, y")
        require_classification(function, prediction)
        require_classes(function, prediction, parameters.shape[1])
        logits = _logits(prediction.probs)
        shape = (1, -1, *[1] * (logits.ndim - 2))
        factors, shifts = (torch.from_numpy(row).reshape(shape).to(logits) for row in parameters)
        return with_mean_probs(prediction, (factors * logits + shifts).softmax(dim=1))


def _logits(probs: Tensor) -> Tensor:
    """Return log-probabilities, float64; of 0 that of the smallest normal number of its dtype."""
    return probs.double().clamp_min(torch.finfo(probs.dtype).tiny).log()
