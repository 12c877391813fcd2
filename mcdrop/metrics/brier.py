"""Decomposition of the Brier score into reliability, resolution and uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mcdrop.checks import require_choice
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import binned, from_columns, take_forecasts, to_columns
from mcdrop.metrics._probs import LabelKind
from mcdrop.metrics._reduction import Reduction, finished

DecompositionBinning = Literal["uniform", "quantile", "isotonic"]


@dataclass(frozen=True)
class BrierDecomposition:
    """Parts of the mean Brier score: score = reliability - resolution + uncertainty + within_bin.

    Attributes:
        reliability: Score that recalibration would remove; lower is better.
        resolution: How far outcomes differ between bins; higher is better.
        uncertainty: Score of the overall frequency, set by the data alone.
        within_bin: Score of forecasts that differ within a bin; 0 for "isotonic".
        score: The mean Brier score.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float
    score: float


@finished
def brier_decomposition(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: DecompositionBinning = "uniform",
    kind: LabelKind = "multiclass",
) -> Reduction[BrierDecomposition]:
    """Split the mean Brier score into reliability, resolution and uncertainty.

    With w_b the share of rows in bin b, f_b their mean probability, o_b their observed
    frequency and o the overall one: reliability = sum w_b (f_b - o_b)^2, resolution =
    sum w_b (o_b - o)^2, uncertainty = o (1 - o), and the rest, within_bin, makes the sum
    exact. Several classes are taken one against the rest and summed.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        n_bins: Number of bins; not used by "isotonic".
        binning: "uniform" for equal width, "quantile" for the sorted rows in equal parts,
            "isotonic" for no bins to choose: o_b is the isotonic regression of the outcome on
            the probability, and reliability the score that this recalibration gains.
        kind: "multiclass" or "binary", which scale as in `brier_score`.

    Returns:
        The parts and the score.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Murphy (1973); within-bin term: Stephenson, Coelho & Jolliffe (2008); isotonic:
        Dimitriadis, Gneiting & Jordan (2021).

    Example:
        >>> parts = brier_decomposition([0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1], kind="binary")
        >>> parts.reliability, parts.resolution, parts.uncertainty, parts.score
        (0.0625, 0.25, 0.25, 0.0625)
    """
    function = "brier_decomposition"
    require_choice(function, "kind", kind, ("multiclass", "binary"))
    require_choice(function, "binning", binning, ("uniform", "quantile", "isotonic"))
    forecasts = take_forecasts(function, probs, y, kind)
    if binning == "isotonic":
        return Reduction(to_columns(forecasts), _isotonic, additive=False)
    return binned(function, forecasts, _murphy, n_bins=n_bins, binning=binning)


def _murphy(sums: Float64, edges: Float64) -> BrierDecomposition:
    count, forecast, event, squared = sums.swapaxes(0, 1)
    total = count.sum(axis=1, keepdims=True)
    base = event.sum(axis=1, keepdims=True) / total
    filled = np.where(count > 0, count, 1.0)
    share, frequency = count / total, event / filled
    reliability = float((share * np.square(forecast / filled - frequency)).sum())
    resolution = float((share * np.square(frequency - base)).sum())
    score, uncertainty = float((squared / total).sum()), float((base * (1 - base)).sum())
    within_bin = score - (reliability - resolution + uncertainty)
    return BrierDecomposition(reliability, resolution, uncertainty, within_bin, score)


def _isotonic(columns: Float64) -> BrierDecomposition:
    forecast, event, _ = from_columns(columns)
    pairs = zip(forecast, event, strict=True)
    parts = np.sum([_isotonic_parts(one, hit) for one, hit in pairs], axis=0)
    score, recalibrated, uncertainty = parts.tolist()
    return BrierDecomposition(
        score - recalibrated, uncertainty - recalibrated, uncertainty, 0.0, score
    )


def _isotonic_parts(forecast: Float64, event: Float64) -> list[float]:
    """Mean Brier score of the forecast, of its isotonic regression and of the frequency."""
    from sklearn.isotonic import isotonic_regression

    # Ties are joined here: IsotonicRegression gives NaN for forecasts one rounding apart.
    _, group, rows = np.unique(forecast, return_inverse=True, return_counts=True)
    best = isotonic_regression(np.bincount(group, event) / rows, sample_weight=rows)[group]
    return [float(np.square(guess - event).mean()) for guess in (forecast, best, event.mean())]
