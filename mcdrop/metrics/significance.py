"""Tests of the hypothesis that predictions are calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mcdrop.checks import require_choice
from mcdrop.metrics._arrays import ArrayLike, Float64, float64
from mcdrop.metrics._probs import take_probs
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.pit import take_pit


@dataclass(frozen=True)
class HypothesisTest:
    """Outcome of a test that predictions are calibrated.

    Attributes:
        statistic: Of the test; 0 is what a calibrated prediction tends to.
        p_value: Chance of a statistic at least this extreme were the prediction calibrated.
        n: Number of outcomes it rests on.
    """

    statistic: float
    p_value: float
    n: int


@finished
def spiegelhalter_test(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    kind: Literal["multiclass", "top_label", "binary"] = "multiclass",
) -> Reduction[HypothesisTest]:
    """Spiegelhalter's test that probabilities are calibrated, two-sided.

    Z = sum (B - E B) / sqrt(sum Var B), with B the Brier score of a row and its moments taken
    under the predicted probabilities: B - E B = 2 (sum_c p_c^2 - p_y) and
    Var B = 4 (sum_c p_c^3 - (sum_c p_c^2)^2). For many rows Z is standard normal if
    the prediction is calibrated; it is above 0 for an overconfident and below 0 for an
    underconfident one. `confidence_test` and `calibration_test` are exact for few rows too.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape of `y`.
        y: Class indices, shape (N,); for "binary" zeros and ones.
        kind: "multiclass" for all probabilities, "top_label" for the confidence in the
            predicted class, "binary" for P(y = 1).

    Returns:
        Z and its p-value. A label that was given probability 0 by rows otherwise sure makes Z
        infinite; where every row is sure and right, or undecided, Z is 0.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or `kind` is none
            of the three names.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Spiegelhalter (1986), Probabilistic prediction in patient management and clinical
        trials; the sum over classes is the same construction.

    Example:
        >>> test = spiegelhalter_test([0.9] * 10, [1] * 9 + [0], kind="binary")
        >>> round(test.p_value, 6)  # nine in ten, as predicted
        1.0
    """
    function = "spiegelhalter_test"
    require_choice(function, "kind", kind, ("multiclass", "top_label", "binary"))
    _, p, labels = take_probs(function, probs, y, kind=kind)
    if kind == "top_label":
        p, predicted = p.max(dim=1)
        labels = (labels == predicted).long()
    if kind != "multiclass":
        p, labels = p.reshape(-1).clamp_max(1), labels.reshape(-1)
        p = torch.stack([1 - p, p], dim=1)
    p = p / p.sum(dim=1, keepdim=True)
    deviation = p - p.square().sum(dim=1, keepdim=True)
    # Equal probabilities say nothing: their rounding error must not.
    deviation = torch.where(deviation.abs() < 1e-12, 0.0, deviation)
    excess = -deviation.gather(1, labels[:, None]).sum()
    variance = (p * deviation.square()).sum()
    return Reduction(float64(torch.stack([excess, variance, excess * 0 + len(p)])), _normal_test)


def _normal_test(kept: Float64) -> HypothesisTest:
    from scipy.special import ndtr

    excess, variance, n = kept.tolist()
    if variance > 0:
        z = excess / math.sqrt(variance)
    else:
        z = math.copysign(math.inf, excess) if excess else 0.0
    return HypothesisTest(z, float(2 * ndtr(-abs(z))), round(n))


@finished
def pit_uniformity_test(pit_values: ArrayLike) -> Reduction[HypothesisTest]:
    """Kolmogorov-Smirnov test that PIT values are uniform, as calibration demands.

    D = sup_u |share of values <= u - u|: the largest error of any one-sided quantile.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).

    Returns:
        D and its exact p-value for independent rows.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1].
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Dawid (1984) for the PIT; Kolmogorov (1933) for the test.

    Example:
        >>> pit_uniformity_test([0.125, 0.375, 0.625, 0.875]).statistic
        0.125
    """
    values = take_pit("pit_uniformity_test", pit_values)
    return Reduction(values, _kolmogorov_smirnov, additive=False)


def _kolmogorov_smirnov(values: Float64) -> HypothesisTest:
    from scipy.stats import kstest

    found = kstest(np.ravel(values), "uniform")
    return HypothesisTest(float(found.statistic), float(found.pvalue), values.size)
