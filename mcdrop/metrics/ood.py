"""Out-of-distribution detection by any uncertainty score."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from mcdrop.checks import (
    require_choice,
    require_finite,
    require_labels,
    require_rows,
    require_same_shape,
    require_unit,
    shown,
)
from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take
from mcdrop.metrics._reduction import Reduction, finished

Positive = Literal["out", "in"]


def _columns(function: str, uncertainty: ArrayLike, is_ood: ArrayLike) -> Float64:
    _, (score, label) = take(function, uncertainty=uncertainty, is_ood=is_ood)
    require_rows(function, "is_ood", label)
    if label.ndim != 1:
        remedy = "Pass one value per row"
        raise ShapeError.of(function, "is_ood", "have shape (N,)", shown(label.shape), remedy)
    require_same_shape(function, "uncertainty", score, label, to="is_ood")
    require_finite(function, uncertainty=score, is_ood=label)
    require_labels(function, "is_ood", label, 2)
    return np.stack([float64(score), float64(label)])


def _detection(function: str, columns: Float64, positive: str) -> tuple[Float64, Float64]:
    """Scores that are higher for the positive rows, and one where a row is positive."""
    score, label = columns
    if label.min() == label.max():
        raise RangeError.of(
            function,
            "is_ood",
            "hold rows of both kinds",
            f"{int(label.max())} in all {label.size} rows",
            "Join the scores of both data sets and mark the second with ones",
        )
    return (score, label) if positive == "out" else (-score, 1 - label)


@finished
def ood_auroc(uncertainty: ArrayLike, is_ood: ArrayLike) -> Reduction[float]:
    """Area under the ROC curve of out-of-distribution detection by uncertainty; higher is better.

    AUROC = P(u_out > u_in) + P(u_out = u_in) / 2, for one row from outside the
    distribution and one from inside.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        is_ood: One for out-of-distribution rows, zero for the others, shape (N,).

    Returns:
        A share between 0 and 1; 1/2 is chance.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        RangeError: If `is_ood` is not zero or one, or all rows are of one kind.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Hendrycks & Gimpel (2017); Mann & Whitney (1947).

    Example:
        >>> ood_auroc([0.1, 0.3, 0.2, 0.4], [0, 0, 1, 1])  # three of four pairs in order
        0.75
    """
    return Reduction(_columns("ood_auroc", uncertainty, is_ood), _auroc, additive=False)


def _auroc(columns: Float64) -> float:
    from scipy.stats import rankdata

    # The rank sum of Mann and Whitney: ties share their ranks.
    score, label = _detection("ood_auroc", columns, "out")
    out = label.sum()
    wins = rankdata(score)[label == 1].sum() - out * (out + 1) / 2
    return float(wins / (out * (label.size - out)))


@finished
def ood_aupr(
    uncertainty: ArrayLike, is_ood: ArrayLike, *, positive: Positive = "out"
) -> Reduction[float]:
    """Area under the precision-recall curve of out-of-distribution detection; higher is better.

    AUPR = sum over thresholds of (recall_k - recall_(k-1)) precision_k (average precision: no
    straight lines between points, which would be too optimistic). Its chance level is the
    share of positive rows, so it cannot be compared between mixtures.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        is_ood: One for out-of-distribution rows, zero for the others, shape (N,).
        positive: Which rows count as found: "out" (AUPR-Out) or "in" (AUPR-In, by certainty).

    Returns:
        A share between 0 and 1.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        RangeError: If `is_ood` is not zero or one, or all rows are of one kind.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Hendrycks & Gimpel (2017); Davis & Goadrich (2006); computed by scikit-learn.

    Example:
        >>> ood_aupr([0.1, 0.3, 0.2, 0.4], [0, 0, 1, 1])  # 1/2 * 1 + 1/2 * 2/3
        0.8333333333333333
    """
    require_choice("ood_aupr", "positive", positive, ("out", "in"))
    columns = _columns("ood_aupr", uncertainty, is_ood)
    return Reduction(columns, partial(_aupr, positive=positive), additive=False)


def _aupr(columns: Float64, positive: str) -> float:
    from sklearn.metrics import average_precision_score

    score, label = _detection("ood_aupr", columns, positive)
    return float(average_precision_score(label, score))


@finished
def fpr_at_tpr(
    uncertainty: ArrayLike, is_ood: ArrayLike, *, tpr: float = 0.95, positive: Positive = "out"
) -> Reduction[float]:
    """False positive rate at the strictest threshold that finds enough; lower is better.

    The share of negative rows at or beyond the threshold where the share of positive rows at
    or beyond it first reaches `tpr`.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        is_ood: One for out-of-distribution rows, zero for the others, shape (N,).
        tpr: True positive rate to reach, in (0, 1].
        positive: Which rows are to be found: "out", or "in" as in the ODIN paper, where 95 %
            of the in-distribution rows are kept and the rate counts foreign ones kept with them.

    Returns:
        A share between 0 and 1.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        RangeError: If `is_ood` is not zero or one, all rows are of one kind, or `tpr` lies
            outside (0, 1].
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Liang, Li & Srikant (2018), ODIN ("in"); computed by scikit-learn.

    Example:
        >>> fpr_at_tpr([0.1, 0.3, 0.2, 0.4], [0, 0, 1, 1])  # finding both 0.2 and 0.4 flags 0.3 too
        0.5
    """
    require_unit("fpr_at_tpr", "tpr", tpr, one=True)
    require_choice("fpr_at_tpr", "positive", positive, ("out", "in"))
    columns = _columns("fpr_at_tpr", uncertainty, is_ood)
    return Reduction(columns, partial(_false_positives, tpr=tpr, positive=positive), additive=False)


def _false_positives(columns: Float64, tpr: float, positive: str) -> float:
    from sklearn.metrics import roc_curve

    score, label = _detection("fpr_at_tpr", columns, positive)
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    # 0.1 + 0.2 is a rounding above 0.3, which must not cost another row.
    return float(false[np.argmax(true >= tpr - 1e-12)])
