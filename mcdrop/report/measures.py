"""The numbers of a report: what each is called, which way is better, how it is estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.displays._draws import Draws
from mcdrop.metrics import Estimate, paired_bootstrap
from mcdrop.metrics._arrays import tensor_of

__all__ = [
    "MEASURES",
    "Measure",
    "Missing",
    "NamedScores",
    "Outcome",
    "Resampling",
    "Score",
    "Uncompared",
    "as_scored",
    "decimals",
    "identical",
    "magnitude",
    "outcome",
    "signed",
    "written",
]

Array: TypeAlias = Tensor | npt.NDArray[np.float64]
Outcome = Literal["better", "worse", "undecided", "identical", "descriptive"]


@dataclass(frozen=True)
class Measure:
    """One row of the table of scores.

    Attributes:
        label: Name in the table.
        unit: "nats", "units of y", "share" (shown in percent) or "" for a plain number.
        better: Which way is better; "neither" where the best value depends on something else.
        meaning: One or two sentences for the glossary.
        family: Heading in the glossary, where several measures share one meaning.
    """

    label: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    meaning: str
    family: str = ""


@dataclass(frozen=True)
class Score:
    """A metric with its arguments, and a note on the computation where it varies.

    Attributes:
        metric: Returns one score per row, or a number; the same for every method compared.
        arrays: Its arguments, rows first.
        note: Such as "mixture over 100 passes".
        losses: One number per row, (N,), by which two methods are compared; None if the measure
            only describes.
    """

    metric: Callable[..., Any]
    arrays: tuple[Array, ...]
    note: str = ""
    losses: Tensor | None = None

    @classmethod
    def by_row(cls, scores: Array, note: str = "") -> Score:
        """Return the mean of scores already computed, (N,) or (N, D): lower is better."""
        losses = tensor_of(scores)
        return cls(as_scored, (scores,), note, losses=losses.reshape(len(losses), -1).mean(dim=1))


@dataclass(frozen=True)
class Uncompared:
    """A number with its interval, of which no difference between methods is formed."""

    estimate: Estimate
    note: str


@dataclass(frozen=True)
class Missing:
    """A number that a prediction does not allow, with the reason."""

    note: str


NamedScores = Mapping[str, Score | Uncompared | Missing]


class Resampling(Draws):
    """How the intervals of a report are made."""

    def estimates(self, scores: NamedScores) -> dict[str, Estimate]:
        """Estimate every score that is there, with its interval over rows."""
        return {key: self.estimate(s) for key, s in scores.items() if not isinstance(s, Missing)}

    def estimate(self, score: Score | Uncompared) -> Estimate:
        """Estimate one score with its interval over rows."""
        if isinstance(score, Uncompared):
            return score.estimate
        return self.bootstrap(score.metric, *score.arrays)

    def differences(self, main: NamedScores, other: NamedScores) -> dict[str, Estimate]:
        """Estimate main minus other on the same rows, where both have the score."""
        pairs = {key: (score, other.get(key)) for key, score in main.items()}
        return {
            key: paired_bootstrap(
                a.metric,
                a.arrays,
                b.arrays,
                level=self.level,
                n_resamples=self.n_resamples,
                seed=self.seed,
            )
            for key, (a, b) in pairs.items()
            if isinstance(a, Score) and isinstance(b, Score)
        }


def as_scored(scores: Array) -> Array:
    """Return row scores that are already computed: the identity as a metric."""
    return scores


def identical(a: Score, b: Score) -> bool:
    """Whether two methods have the same score in every row, not only on average."""
    first, second = ((s.arrays if s.losses is None else (s.losses,)) for s in (a, b))
    return all(torch.equal(tensor_of(x), tensor_of(y)) for x, y in zip(first, second, strict=True))


def outcome(key: str, difference: Estimate, rejected: bool) -> Outcome:
    """Say whether the first method is better: only if equality was rejected.

    Args:
        key: Of the measure.
        difference: First minus second.
        rejected: Whether the test of equality was rejected.
    """
    better = MEASURES[key].better
    if better == "neither":
        return "descriptive"
    if not rejected:
        return "undecided"
    return "better" if (difference.value < 0) == (better == "lower") else "worse"


def decimals(key: str, estimates: Iterable[Estimate]) -> int:
    """Decimals that show two digits of the narrowest interval: more would print noise."""
    scale = 100.0 if MEASURES[key].unit == "share" else 1.0
    # Intervals of zero width, up to rounding, say nothing about digits.
    told = [scale * (e.high - e.low) for e in estimates if e.high - e.low > 1e-6 * abs(e.value)]
    digits = max((1 - math.floor(math.log10(width)) for width in told), default=2)
    return min(max(0, digits), 8)


def written(key: str, estimate: Estimate, digits: int | None = None) -> str:
    """Write an estimate with its interval, shares in percent: "84 % [80, 88]"."""
    mark = " %" if MEASURES[key].unit == "share" else ""
    value, low, high = _rounded(key, estimate, digits, "-")
    return f"{value}{mark} [{low}, {high}]"


def signed(key: str, difference: Estimate, digits: int | None = None) -> str:
    """Write a difference with its sign, shares in points: "+2.1 [+0.3, +3.9] points"."""
    value, low, high = _rounded(key, difference, digits, "+")
    return f"{value} [{low}, {high}]{_points(key)}"


def magnitude(key: str, difference: Estimate) -> str:
    """Write the size of a difference that excludes 0: "2.1 [0.3, 3.9] points"."""
    d = difference
    if d.value < 0:
        d = replace(d, value=-d.value, low=-d.high, high=-d.low)
    value, low, high = _rounded(key, d, None, "-")
    return f"{value} [{low}, {high}]{_points(key)}"


def _points(key: str) -> str:
    return " points" if MEASURES[key].unit == "share" else ""


def _rounded(key: str, estimate: Estimate, digits: int | None, sign: str) -> list[str]:
    """Return value, low and high as text."""
    scale = 100.0 if MEASURES[key].unit == "share" else 1.0
    style = f"{sign}.{decimals(key, [estimate]) if digits is None else digits}f"
    shown = [format(scale * v, style) for v in (estimate.value, estimate.low, estimate.high)]
    # -0.0 would be shown with a minus sign.
    return [format(0.0, style) if float(text) == 0 else text for text in shown]


def _coverage(percent: int) -> Measure:
    return Measure(
        f"Coverage of {percent} % intervals",
        "share",
        "neither",
        "Share of targets inside their interval. Right when it is the stated level: less means "
        "the intervals are too narrow, more that they are too wide.",
        family="Coverage",
    )


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "rmse": Measure(
            "RMSE",
            "units of y",
            "lower",
            "Root mean squared error of the predictive mean: the typical size of an error, large "
            "ones weighing more.",
        ),
        "nll": Measure(
            "NLL",
            "nats",
            "lower",
            "Negative log-likelihood of the targets, averaged over rows. It rewards being right "
            "and stating the right uncertainty, and punishes confident errors hardest.",
        ),
        "crps": Measure(
            "CRPS",
            "units of y",
            "lower",
            "Continuous ranked probability score: the mean absolute error, generalized to a "
            "predicted distribution. It is forgiving of outliers where the NLL is not.",
        ),
        "coverage_50": _coverage(50),
        "coverage_90": _coverage(90),
        "coverage_95": _coverage(95),
        "interval_width_90": Measure(
            "Mean width of 90 % intervals",
            "units of y",
            "neither",
            "How much room a 90 % interval leaves. Narrower is more useful, provided that the "
            "coverage is right.",
        ),
        "sharpness": Measure(
            "Sharpness",
            "units of y",
            "neither",
            "Root mean predicted variance: the size of error the model expects. For a calibrated "
            "model it agrees with the RMSE.",
        ),
        "auroc_error": Measure(
            "Error AUROC",
            "",
            "higher",
            "Chance that, of two rows with unequal errors, the row with the larger error is the "
            "one stated as less certain: 0.5 is guessing, 1 is perfect. For right and wrong this "
            "is the area under the ROC curve of finding the wrong rows.",
        ),
        "accuracy": Measure(
            "Accuracy",
            "share",
            "higher",
            "Share of rows whose most probable class is the true one.",
        ),
        "brier": Measure(
            "Brier score",
            "",
            "lower",
            "Squared distance between the predicted probabilities and the outcome, summed over "
            "classes: 0 is perfect, 2 is certain and wrong.",
        ),
        "ece": Measure(
            "ECE",
            "share",
            "neither",
            "Expected calibration error: the average gap between confidence and accuracy over 15 "
            "equal-width bins of confidence in the predicted class. It is above 0 even for a "
            "calibrated model, the more so the fewer the rows, so it is shown with the range that "
            "a calibrated model would have. It rewards no sharpness and judges no method: a "
            "constant forecast can have an ECE of 0.",
        ),
        "confidence": Measure(
            "Mean confidence",
            "share",
            "neither",
            "Mean probability of the predicted class. For a calibrated model it agrees with the "
            "accuracy.",
        ),
        "predictive_entropy": Measure(
            "Mean predictive entropy",
            "nats",
            "neither",
            "Total uncertainty of the predicted class probabilities: 0 is certain, log C is a "
            "uniform guess among C classes.",
        ),
        "mutual_information": Measure(
            "Mean mutual information",
            "nats",
            "neither",
            "The part of the predictive entropy that comes from disagreement between passes "
            "(epistemic): the spread of the dropout posterior. At a fixed dropout rate it need "
            "not shrink as the training set grows. Plug-in estimate, a little low at few passes.",
        ),
    }
)
