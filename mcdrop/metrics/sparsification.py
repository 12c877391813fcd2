"""Sparsification: how fast the error falls as the most uncertain rows are removed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from mcdrop.checks import require_flag
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.selective import take_ranked


@dataclass(frozen=True)
class SparsificationCurve:
    """Error of the rows left, relative to that of all rows, at every number of rows removed.

    Attributes:
        removed: Share of rows removed, 0, 1/N, ..., (N - 1)/N, shape (N,).
        error: Relative error after removing the most uncertain rows, shape (N,).
        oracle: The same after removing the rows with the largest loss, shape (N,).
    """

    removed: Float64
    error: Float64
    oracle: Float64


@finished
def sparsification_curve(
    uncertainty: ArrayLike, *, loss: ArrayLike, root: bool = False
) -> Reduction[SparsificationCurve]:
    """Error against the share of most uncertain rows removed; the closer to the oracle the better.

    error(k / N) = mean loss of the N - k least uncertain rows over the mean loss of all rows.
    Rows of equal uncertainty are removed in random order, on average. A useless uncertainty
    stays at 1.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, at least 0, such as absolute or squared errors, shape (N,).
        root: Whether to take the root of each mean loss: for squared errors the curve of the
            RMSE.

    Returns:
        The curve and that of the oracle, which removes the largest losses.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a loss is negative or all are 0.

    Source:
        Ilg et al. (2018), Uncertainty estimates and multi-hypotheses networks for optical flow;
        sparsification plots: Wannenwetsch, Keuper & Roth (2017).

    Example:
        >>> curve = sparsification_curve([0.1, 0.3, 0.2, 0.4], loss=[0.0, 1.0, 2.0, 5.0])
        >>> curve.error, curve.oracle  # mean losses 2, 1, 1, 0 and 2, 1, 1/2, 0, over 2
        (array([1. , 0.5, 0.5, 0. ]), array([1.  , 0.5 , 0.25, 0.  ]))
    """
    require_flag("sparsification_curve", "root", root)
    columns = _take_losses("sparsification_curve", uncertainty, loss)
    return Reduction(columns, partial(_curve, root=root), additive=False)


@finished
def ause(uncertainty: ArrayLike, *, loss: ArrayLike, root: bool = False) -> Reduction[float]:
    """Area under the sparsification error; lower is better.

    AUSE = mean over k = 0, ..., N - 1 of error(k / N) - oracle(k / N), the curves of
    `sparsification_curve`: 0 for an uncertainty that ranks rows by their loss.

    Args:
        uncertainty: Any score, higher is less certain, shape (N,).
        loss: Loss of each row, at least 0, shape (N,).
        root: As in `sparsification_curve`.

    Returns:
        The area, without unit. It compares uncertainties of one model: the oracle depends on
        the errors of the model.

    Raises:
        ShapeError: If the two are not of one shape (N,) or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a loss is negative or all are 0.

    Source:
        Ilg et al. (2018).

    Example:
        >>> ause([0.1, 0.3, 0.2, 0.4], loss=[0.0, 1.0, 2.0, 5.0])  # (0 + 0 + 1/4 + 0) / 4
        0.0625
    """
    require_flag("ause", "root", root)
    columns = _take_losses("ause", uncertainty, loss)
    return Reduction(columns, partial(_area, root=root), additive=False)


def _take_losses(function: str, uncertainty: ArrayLike, loss: ArrayLike) -> Float64:
    columns = take_ranked(function, uncertainty, loss)
    if bool((columns[1] < 0).any()) or not bool((columns[1] > 0).any()):
        found = f"losses from {columns[1].min():g} to {columns[1].max():g}"
        remedy = "Pass absolute or squared errors"
        raise RangeError.of(function, "loss", "be at least 0 and not all 0", found, remedy)
    return columns


def _curve(columns: Float64, root: bool) -> SparsificationCurve:
    uncertainty, loss = columns
    error, oracle = _means_left(uncertainty, loss), _means_left(loss, loss)
    if root:
        error, oracle = np.sqrt(error), np.sqrt(oracle)
    return SparsificationCurve(np.arange(loss.size) / loss.size, error, oracle)


def _means_left(score: Float64, loss: Float64) -> Float64:
    """Relative mean loss after 0, ..., N - 1 of the rows with the highest score are removed."""
    _, group, sizes = np.unique(score, return_inverse=True, return_counts=True)
    by_group = np.bincount(group, loss) / sizes
    kept = np.cumsum(np.repeat(by_group, sizes)) / np.arange(1, loss.size + 1)
    relative: Float64 = kept[::-1] / kept[-1]
    return relative


def _area(columns: Float64, root: bool) -> float:
    curve = _curve(columns, root)
    return float((curve.error - curve.oracle).mean())
