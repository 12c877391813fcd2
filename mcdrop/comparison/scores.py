"""The scores of one prediction on the rows of one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from mcdrop.metrics import (
    brier_score,
    crps_ensemble,
    crps_mixture,
    crps_normal,
    expected_calibration_error,
    rmse,
)
from mcdrop.metrics._arrays import tensor_of
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.targets import aligned_targets, class_labels

__all__ = ["MEASURES", "Measure", "SplitScore", "split_scores"]

FUNCTION = "compare"


@dataclass(frozen=True)
class Measure:
    """What a score is called and which way is better.

    Attributes:
        label: Name in tables and pictures.
        better: Which way is better; "neither" where a stated value is best, and nothing is judged.
        is_share: Whether it lies between 0 and 1.
    """

    label: str
    better: Literal["lower", "higher", "neither"]
    is_share: bool = False


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "rmse": Measure("RMSE", "lower"),
        "nll": Measure("NLL", "lower"),
        "crps": Measure("CRPS", "lower"),
        "coverage_90": Measure("coverage of 90 % intervals", "neither", True),
        "width_90": Measure("width of 90 % intervals", "neither"),
        "accuracy": Measure("accuracy", "higher", True),
        "brier": Measure("Brier score", "lower"),
        "ece": Measure("ECE", "neither", True),
    }
)


@dataclass(frozen=True)
class SplitScore:
    """One score of one method on the test rows of one split.

    Attributes:
        metric: Takes `arrays`; returns a score per row, or a number.
        arrays: Its arguments, rows first.
        losses: Loss of each row, (N,), by which two methods are compared on a single split; None
            where nothing is judged.
    """

    metric: Callable[..., Any]
    arrays: tuple[Tensor, ...]
    losses: Tensor | None = None

    @property
    def value(self) -> float:
        """The score of all rows."""
        return float(tensor_of(self.metric(*self.arrays)).double().mean())


def split_scores(prediction: object, y: Any) -> dict[str, SplitScore]:
    """Score a prediction by everything that it allows; scores that are infinite are left out."""
    if isinstance(prediction, RegressionPrediction):
        scores = _regression(prediction, aligned_targets(FUNCTION, y, prediction.mean))
    elif isinstance(prediction, ClassificationPrediction):
        scores = _classification(prediction, class_labels(FUNCTION, y, prediction.probs))
    else:
        raise TypeError(type(prediction).__name__)
    return {key: s for key, s in scores.items() if all(bool(a.isfinite().all()) for a in s.arrays)}


def _by_row(values: Any) -> SplitScore:
    """Score by the mean of losses already computed, (N,) or (N, D)."""
    losses = tensor_of(values).double()
    losses = losses.reshape(len(losses), -1).mean(dim=1)
    return SplitScore(_itself, (losses,), losses)


def _described(values: Tensor) -> SplitScore:
    """Describe by the mean of numbers that nothing is judged by."""
    return SplitScore(_itself, _by_row(values).arrays)


def _itself(values: Tensor) -> Tensor:
    """Return row scores that are already computed."""
    return values


def _regression(p: RegressionPrediction, y: Tensor) -> dict[str, SplitScore]:
    squares = (p.mean.double() - y).square().reshape(len(y), -1).mean(dim=1)
    scores = {
        "rmse": SplitScore(rmse, (squares.sqrt(), torch.zeros_like(squares)), squares),
        "crps": _by_row(_crps(p, y)),
    }
    noise = p.aleatoric_variance if p.sample_variances is None else p.sample_variances
    has_density = (p.variance if p.family == "normal" else noise) > 0
    if bool(has_density.all()) and (p.family == "normal" or p.samples is not None):
        scores["nll"] = _by_row(-p.log_prob(y))
    if bool((p.variance > 0).all()):
        held = p if p.family == "normal" or p.samples is not None else p.as_normal()
        low, high = held.interval(0.9)
        scores["coverage_90"] = _described(((low <= y) & (y <= high)).double())
        scores["width_90"] = _described(high - low)
    return scores


def _crps(p: RegressionPrediction, y: Tensor) -> Any:
    """CRPS of the mixture, of the draws themselves without noise, or of the normal."""
    if p.family == "normal" or p.samples is None:
        return crps_normal(p.mean.double(), p.std.double(), y)
    samples, noise = p.samples.double(), p.aleatoric_variance.double().unsqueeze(0)
    if p.sample_variances is not None:
        noise = p.sample_variances.double()
    if not bool((noise > 0).all()):
        return crps_ensemble(samples, y)
    return crps_mixture(samples, noise.sqrt().expand_as(samples), y)


def _classification(p: ClassificationPrediction, y: Tensor) -> dict[str, SplitScore]:
    wrong = (p.labels != y).double()
    probs = p.probs.double()
    return {
        "accuracy": SplitScore(_itself, (1 - wrong,), wrong),
        "nll": _by_row(-p.log_prob(y).double()),
        "brier": _by_row(brier_score(probs, y)),
        "ece": SplitScore(_ece, (probs, y)),
    }


def _ece(probs: Tensor, y: Tensor) -> float:
    return expected_calibration_error(probs, y)
