"""Isotonic recalibration of the averaged class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mcdrop.checks import require_fitted
from mcdrop.errors import RangeError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.recalibration._matched import (
    labels_of,
    require_classes,
    require_classification,
)
from mcdrop.recalibration._mean_probs import with_mean_probs

__all__ = ["IsotonicRecalibration"]


class IsotonicRecalibration:
    """The best increasing map of each class probability, one class against the rest.

    For every class c the increasing function g_c with the smallest Brier score against
    ``1[y = c]`` is fitted to p_c, the average over passes; then p'_c = g_c(p_c) / sum_k g_k(p_k).
    Between calibration points g_c is linear, beyond them constant. Where every g_c is 0 the
    classes share alike. With two classes the maps mirror each other and already sum to 1.

    Labels may change, and probabilities of exactly 0 occur, so that `nll_categorical` can be
    infinite; with fewer than about a thousand rows prefer `TemperatureScaling`. Expected entropy
    and mutual information stay the same fractions of the predictive entropy, ``probs_std`` and
    ``mcse`` the same fractions of sqrt(p (1 - p)), `variation_ratio` is unchanged, and `samples`
    is None because no passes average to the new probabilities. For regression see
    `QuantileRecalibration`.

    Source:
        Zadrozny & Elkan (2002); scikit-learn's IsotonicRegression.

    Example:
        >>> import torch
        >>> p = ClassificationPrediction(
        ...     probs=torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]),
        ...     probs_std=torch.zeros(3, 2), expected_entropy=torch.zeros(3),
        ...     variation_ratio=torch.zeros(3), mcse=torch.zeros(3, 2), n_samples=0)
        >>> IsotonicRecalibration().fit(p, [1, 0, 1])(p).probs  # the first two rows violate order
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000],
                [0.0000, 1.0000]])
    """

    def __init__(self) -> None:
        self._maps: list[Any] | None = None

    def fit(self, prediction: ClassificationPrediction, y: Any) -> IsotonicRecalibration:
        """Fit one map per class on held-out rows, and return the recalibrator.

        Args:
            prediction: For rows that the model was not trained on.
            y: Integer labels, shape (N, ...).

        Raises:
            UnsupportedError: If `prediction` is not a plain ClassificationPrediction.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a class never occurs, whose probability would become 0 for good.
        """
        from sklearn.isotonic import IsotonicRegression

        function = "IsotonicRecalibration.fit"
        require_classification(function, prediction)
        labels = labels_of(function, prediction, y).flatten().cpu().numpy()
        probs = prediction.probs.double().movedim(1, 0).flatten(1).cpu().numpy()
        absent = sorted(set(range(len(probs))) - set(labels.tolist()))
        if absent:
            raise RangeError.of(
                function,
                "y",
                "hold every class at least once",
                f"no row of class {', '.join(map(str, absent[:10]))}",
                "Calibrate on more rows, or use TemperatureScaling, which needs no row per class",
            )
        self._maps = [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, labels == c)
            for c, p in enumerate(probs)
        ]
        return self

    def __call__(self, prediction: ClassificationPrediction) -> ClassificationPrediction:
        """Return the prediction with recalibrated probabilities.

        Args:
            prediction: Any rows, with the classes of the fit.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            ShapeError: If the classes differ from those of the fit.
        """
        function = "IsotonicRecalibration"
        maps = require_fitted(function, self._maps, "prediction, y")
        require_classification(function, prediction)
        require_classes(function, prediction, len(maps))
        probs = prediction.probs.double().movedim(1, 0)
        flat = probs.flatten(1).cpu().numpy()
        mapped = np.stack([g.predict(p) for g, p in zip(maps, flat, strict=True)])
        total = mapped.sum(axis=0)
        shared = np.where(total > 0, mapped / np.where(total > 0, total, 1), 1 / len(maps))
        new = torch.from_numpy(shared).to(probs.device).reshape(probs.shape).movedim(0, 1)
        return with_mean_probs(prediction, new)
