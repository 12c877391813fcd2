"""Temperature scaling of class probabilities, averaged or pass by pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop.checks import require_choice, require_fitted, rows_text
from mcdrop.errors import OutputError, RangeError
from mcdrop.metrics._search import positive_minimum
from mcdrop.prediction import ClassificationPrediction
from mcdrop.recalibration._matched import labels_of, require_classification
from mcdrop.recalibration._mean_probs import with_mean_probs

__all__ = ["TemperatureScaling"]

_LOWEST, _HIGHEST = 0.01, 100.0


class TemperatureScaling:
    """One temperature for all log-probabilities, fitted by maximum likelihood.

    ``"mean"``: p' = softmax(log p / temperature) with p the average over passes. The classes
    keep their order, so labels and accuracy do not change. The passes say nothing about what
    they would have averaged to, so their shares are kept: expected entropy and mutual information
    stay the same fractions of the predictive entropy, ``probs_std`` and ``mcse`` the same
    fractions of sqrt(p (1 - p)), `variation_ratio` is unchanged and `samples` is None.

    ``"passes"``: p'_s = softmax(log p_s / temperature) in every pass, then averaged. Needs the
    samples; every field, the samples too, is computed anew from the scaled passes. The average
    may change its label. The two temperatures differ, because averaging softens once more what
    the passes were scaled to.

    Args:
        apply_to: "mean" or "passes".

    Source:
        Guo et al. (2017), section 4.2; on passes or on their average: Laves et al. (2019),
        Rahaman & Thiery (2021).

    Example:
        >>> import torch
        >>> p = ClassificationPrediction(
        ...     probs=torch.tensor([[0.9, 0.1]]).repeat(4, 1), probs_std=torch.zeros(4, 2),
        ...     expected_entropy=torch.zeros(4), variation_ratio=torch.zeros(4),
        ...     mcse=torch.zeros(4, 2), n_samples=0)
        >>> scaling = TemperatureScaling().fit(p, [0, 0, 0, 1])  # right 3 times in 4, not 9 in 10
        >>> round(scaling.temperature, 4), scaling(p).probs[0]  # log 9 / log 3
        (2.0, tensor([0.7500, 0.2500]))
    """

    def __init__(self, apply_to: Literal["mean", "passes"] = "mean") -> None:
        require_choice("TemperatureScaling", "apply_to", apply_to, ("mean", "passes"))
        self.apply_to = apply_to
        self._temperature: float | None = None

    @property
    def temperature(self) -> float:
        """Temperature found by `fit`; above 1 softens, below 1 sharpens."""
        return require_fitted("TemperatureScaling.temperature", self._temperature, "prediction, y")

    def fit(self, prediction: ClassificationPrediction, y: Any) -> TemperatureScaling:
        """Find the temperature that makes held-out labels most likely, and return the scaler.

        Args:
            prediction: For rows that the model was not trained on.
            y: Integer labels, shape (N, ...).

        Raises:
            UnsupportedError: If `prediction` is not a plain ClassificationPrediction.
            OutputError: If passes are to be scaled and the samples were not kept.
            ShapeError: If `y` does not match the prediction.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If a label was given probability 0, or no temperature between 0.01 and
                100 is best, as when every label is the most probable class.
        """
        function = "TemperatureScaling.fit"
        require_classification(function, prediction)
        labels = labels_of(function, prediction, y).unsqueeze(1)
        log_probs = self._log_probs(function, prediction)
        given = log_probs.gather(2, labels.expand(len(log_probs), *labels.shape)).squeeze(2)
        missed = (given == -torch.inf).all(dim=0)
        if bool(missed.any()):
            raise RangeError.of(
                function,
                "y",
                "hold labels with a probability above 0",
                f"probability 0 in {rows_text(missed)}",
                "No temperature changes a 0: look at these rows, or predict in float64",
            )
        ends = log_probs.new_tensor(_LOWEST), log_probs.new_tensor(_HIGHEST)
        best, inside = positive_minimum(_loss(log_probs, given), *ends)
        temperature = best.item()
        if not bool(inside):
            end = "sharper" if temperature < 1 else "softer"
            raise RangeError.of(
                function,
                "y",
                f"have a most likely temperature between {_LOWEST} and {_HIGHEST:g}",
                f"a likelihood that grows the {end} the probabilities",
                "Calibrate on more rows, some of them misclassified"
                if temperature < 1
                else "These probabilities carry no information about y",
            )
        self._temperature = temperature
        return self

    def __call__(self, prediction: ClassificationPrediction) -> ClassificationPrediction:
        """Return the prediction at the fitted temperature.

        Args:
            prediction: Any rows, with the kept samples if passes are scaled.

        Raises:
            UnsupportedError: If `fit` has not run, or the prediction is of another type.
            OutputError: If passes are to be scaled and the samples were not kept.
        """
        function = "TemperatureScaling"
        temperature = require_fitted(function, self._temperature, "prediction, y")
        require_classification(function, prediction)
        log_probs = self._log_probs(function, prediction)
        if self.apply_to == "mean":
            return with_mean_probs(prediction, (log_probs[0] / temperature).softmax(dim=1))
        scaled = (log_probs / temperature).softmax(dim=2).to(prediction.probs.dtype)
        run = prediction.run
        rates = () if run is None else tuple(site.p for site in run.sites if site.fired)
        groups = PassGroups(len(scaled), stratified=run is not None and run.stratified, rates=rates)
        passes = ClassificationAccumulator(
            function, 0, keep_samples=True, groups=groups, output_type="probs"
        )
        passes.update(scaled)
        # A temperature leaves the vote of every pass as it was.
        votes = prediction.variation_ratio
        return replace(passes.result(), variation_ratio=votes, run=run)

    def _log_probs(self, function: str, prediction: ClassificationPrediction) -> Tensor:
        """Return float64 log-probabilities, (S, N, C, ...); the average counts as one pass."""
        if self.apply_to == "mean":
            return prediction.probs.double().log().unsqueeze(0)
        if prediction.samples is None:
            raise OutputError.of(
                function,
                "prediction",
                "hold the samples of its passes",
                "None",
                'Predict with keep_samples=True, or scale the average with apply_to="mean"',
            )
        return prediction.samples.double().log()


def _loss(log_probs: Tensor, given: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the mean negative log-likelihood of labels, `given` that log-probability by pass."""

    def loss(temperature: Tensor) -> Tensor:
        totals = (log_probs / temperature).logsumexp(dim=2)
        scores = (given / temperature - totals).logsumexp(dim=0) - math.log(len(given))
        return -scores.mean()

    return loss
