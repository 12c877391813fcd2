"""Selective prediction: the loss that is left when the most uncertain rows are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from mcdrop.checks import (
    require_choice,
    require_finite,
    require_rows,
    require_same_shape,
    require_unit,
    shown,
)
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take
from mcdrop.metrics._reduction import Reduction, finished


@dataclass(frozen=True)
class RiskCoverageCurve:
    """Mean loss of the rows kept, for every threshold that some row sets.

    Attributes:
        coverage: Share of rows kept, ascending to 1, shape (M,).
        risk: Mean loss of the rows kept, shape (M,).
        threshold: Rows with at most this uncertainty are kept, ascending, shape (M,).
    """

    coverage: Float64
    risk: Float64
    threshold: Float64


def take_ranked(function: str, uncertainty: ArrayLike, loss: ArrayLike) -> Float64:
    """Take uncertainty and loss of each row as columns (2, N)."""
    _, (score, cost) = take(function, uncertainty=uncertainty, loss=loss)
    require_rows(function, "loss", cost)
    if cost.ndim != 1:
        remedy = "Average the loss over the outputs of a row"
        raise ShapeError.of(function, "loss", "have shape (N,)", shown(cost.shape), remedy)
    require_same_shape(function, "uncertainty", score, cost, to="loss")
    require_finite(function, uncertainty=score, loss=cost)
    return np.stack([float64(score), float64(cost)])


@finished
def risk_coverage_curve(uncertainty: ArrayLike, *, loss: ArrayLike) -> Reduction[RiskCoverageCurve]:
    """Mean loss of the rows kept against the share of rows kept; lower is better.

    risk(t) = mean loss over the rows with uncertainty <= t, coverage(t) = their share. Rows of
    equal uncertainty are kept or rejected together.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, such as zero-one errors or squared errors, shape (N,).

    Returns:
        The curve, one point per distinct uncertainty.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        El-Yaniv & Wiener (2010); Geifman & El-Yaniv (2017).

    Example:
        >>> curve = risk_coverage_curve([0.1, 0.2, 0.3, 0.4], loss=[0, 0, 0, 1])
        >>> curve.coverage, curve.risk
        (array([0.25, 0.5 , 0.75, 1.  ]), array([0.  , 0.  , 0.  , 0.25]))
    """
    columns = take_ranked("risk_coverage_curve", uncertainty, loss)
    return Reduction(columns, _curve, additive=False)


def _curve(columns: Float64) -> RiskCoverageCurve:
    uncertainty, loss = columns[:, np.argsort(columns[0], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(uncertainty) > 0, True))
    kept = last + 1
    return RiskCoverageCurve(
        kept / uncertainty.size, np.cumsum(loss)[last] / kept, uncertainty[last]
    )


@finished
def selective_risk(uncertainty: ArrayLike, *, loss: ArrayLike, coverage: float) -> Reduction[float]:
    """Mean loss after rejecting the most uncertain rows; lower is better.

    The risk of `risk_coverage_curve` at the smallest coverage that is at least the one asked
    for: all rows of the last uncertainty kept are kept.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, shape (N,).
        coverage: Share of rows to keep, in (0, 1].

    Returns:
        The mean loss of the rows kept, in the unit of `loss`.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `coverage` lies outside (0, 1].

    Source:
        Geifman & El-Yaniv (2017).

    Example:
        >>> selective_risk([0.1, 0.2, 0.3, 0.4], loss=[0, 0, 0, 1], coverage=0.75)
        0.0
    """
    require_unit("selective_risk", "coverage", coverage, one=True)
    columns = take_ranked("selective_risk", uncertainty, loss)
    return Reduction(columns, partial(_risk_at, coverage=coverage), additive=False)


def _risk_at(columns: Float64, coverage: float) -> float:
    curve = _curve(columns)
    # 0.1 + 0.2 is a rounding above 0.3, which must not cost another row.
    return float(curve.risk[np.searchsorted(curve.coverage, coverage - 1e-12)])


@finished
def aurc(
    uncertainty: ArrayLike, *, loss: ArrayLike, convention: Literal["mean", "trapezoid"] = "mean"
) -> Reduction[float]:
    """Area under the risk-coverage curve; lower is better.

    "mean": the mean over rows of the risk at the threshold that row sets,
    (1 / N) sum_i risk(u_i). "trapezoid": the integral over coverage from 0 to 1 of the curve
    joined by straight lines, its first risk held down to coverage 0. The two differ by order
    1 / N. The excess over a perfect ranking is aurc(u, loss=l) - aurc(l, loss=l).

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, shape (N,).
        convention: "mean" or "trapezoid", as above.

    Returns:
        The area, in the unit of `loss`.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `convention` is neither of the two names.

    Source:
        "mean": Geifman, Uziel & El-Yaniv (2019); "trapezoid": Jaeger, Lueth, Klein & Bungert
        (2023).

    Example:
        >>> aurc([0.1, 0.2, 0.3, 0.4], loss=[0, 0, 0, 1])  # (0 + 0 + 0 + 1/4) / 4
        0.0625
        >>> aurc([0.1, 0.2, 0.3, 0.4], loss=[0, 0, 0, 1], convention="trapezoid")  # 1/4 * 1/8
        0.03125
    """
    require_choice("aurc", "convention", convention, ("mean", "trapezoid"))
    columns = take_ranked("aurc", uncertainty, loss)
    return Reduction(columns, partial(_area, convention=convention), additive=False)


def _area(columns: Float64, convention: str) -> float:
    curve = _curve(columns)
    width = np.diff(curve.coverage, prepend=0.0)
    if convention == "mean":
        return float((width * curve.risk).sum())
    before = np.append(curve.risk[:1], curve.risk[:-1])
    return float((width * (curve.risk + before) / 2).sum())


@finished
def augrc(uncertainty: ArrayLike, *, loss: ArrayLike) -> Reduction[float]:
    """Area under the generalized risk-coverage curve; lower is better.

    The integral over coverage from 0 to 1 of coverage * risk, the loss that is let through,
    joined by straight lines: the mean loss of undetected failures. For zero-one errors of rate
    e it is (1 - AUROC) e (1 - e) + e^2 / 2, with the AUROC of telling errors by uncertainty.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, shape (N,).

    Returns:
        The area, in the unit of `loss`; between 0 and 1/2 for errors.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Traub et al. (2024), Overcoming common flaws in the evaluation of selective
        classification systems.

    Example:
        >>> augrc([0.1, 0.2, 0.3, 0.4], loss=[0, 0, 0, 1])  # perfect order: (1/4)^2 / 2
        0.03125
    """
    return Reduction(take_ranked("augrc", uncertainty, loss), _generalized_area, additive=False)


def _generalized_area(columns: Float64) -> float:
    curve = _curve(columns)
    coverage = np.append(0.0, curve.coverage)
    let_through = np.append(0.0, curve.coverage * curve.risk)
    return float((np.diff(coverage) * (let_through[1:] + let_through[:-1]) / 2).sum())
