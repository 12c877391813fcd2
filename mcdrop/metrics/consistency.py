"""What a calibrated model would show: null range of the ECE and band of the reliability curve.

A plain ECE is above 0 for every finite sample, and an observed frequency never lies exactly on
the diagonal. Both are judged here against outcomes drawn from the stated probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from mcdrop.checks import require_choice, require_count, require_flag, require_unit
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import Binning, Forecasts, membership, take_forecasts
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.calibration import Norm
from mcdrop.metrics.calibration_tests import monte_carlo_p, outcomes


@dataclass(frozen=True)
class CalibrationErrorTest:
    """A calibration error against its distribution for a calibrated model.

    Attributes:
        statistic: The calibration error of the outcomes.
        p_value: Chance of one at least as large for a calibrated model.
        null_mean: Its mean for a calibrated model, on these rows.
        null_low: Lower end of its range for a calibrated model.
        null_high: Upper end of that range.
        excess: statistic - null_mean: of mean 0 for a calibrated model, and so below 0 for some
            samples of it. For others it is mostly below the true error, since noise adds less
            to a large gap than to none.
        level: Share of calibrated outcomes inside the range.
        n: Number of rows.
    """

    statistic: float
    p_value: float
    null_mean: float
    null_low: float
    null_high: float
    excess: float
    level: float
    n: int


@dataclass(frozen=True)
class ConsistencyBand:
    """Range of observed frequencies of a calibrated model in B bins; NaN where one is empty.

    Attributes:
        confidence: Mean predicted probability of each bin, shape (B,).
        low: Lower end of the range of the observed frequency, shape (B,).
        high: Upper end of it, shape (B,).
        count: Rows in each bin, shape (B,).
        level: Chance that the frequency of a bin lies inside, or that all of them do.
    """

    confidence: Float64
    low: Float64
    high: Float64
    count: npt.NDArray[np.int64]
    level: float


@finished
def calibration_error_test(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
    norm: Norm = "l1",
    kind: Literal["top_label", "binary"] = "top_label",
    level: float = 0.95,
    n_resamples: int = 999,
    seed: int = 0,
) -> Reduction[CalibrationErrorTest]:
    """Test an expected calibration error against that of a calibrated model on the same rows.

    Outcomes are drawn R times from the stated probabilities, and the error of each drawing is
    computed in the same bins: p = (1 + #{drawn >= observed}) / (R + 1). With few rows the null
    range is wide, and the ECE can show large miscalibration only; `calibration_test` needs no
    bins and is usually the more powerful test.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        n_bins: As in `expected_calibration_error`.
        binning: As in `expected_calibration_error`.
        norm: As in `expected_calibration_error`.
        kind: "top_label" or "binary", as in `expected_calibration_error`.
        level: Share of drawn errors inside the null range, in (0, 1).
        n_resamples: Number R of drawings.
        seed: Seed of the drawings.

    Returns:
        The error, its null range and mean, and the p-value. The false alarm rate is that
        of `calibration_test`: at most the level for every N, on average over seeds.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Broecker & Smith (2007); Vaicenavicius et al. (2019), Evaluating model calibration in
        classification.

    Example:
        >>> p = [0.7] * 100
        >>> test = calibration_error_test(p, [1] * 64 + [0] * 36, kind="binary")
        >>> round(test.statistic, 2), test.null_low < 0.06 < test.null_high, test.p_value > 0.1
        (0.06, True, True)
    """
    function = "calibration_error_test"
    require_choice(function, "norm", norm, ("l1", "l2", "max"))
    require_unit(function, "level", level)
    require_count(function, "seed", seed, 0)
    forecasts = _take(function, probs, y, kind, n_bins, binning, n_resamples)
    end = partial(
        _error_test,
        bins=partial(membership, n_bins=n_bins, binning=binning, dtype=forecasts.dtype),
        norm=norm,
        level=level,
        n_resamples=n_resamples,
        seed=seed,
    )
    columns = np.concatenate([forecasts.forecast, forecasts.event])
    return Reduction(columns, end, additive=False)


def _take(
    function: str,
    probs: ArrayLike,
    y: ArrayLike,
    kind: str,
    n_bins: int,
    binning: str,
    n_resamples: int,
) -> Forecasts:
    require_choice(function, "kind", kind, ("top_label", "binary"))
    require_count(function, "n_bins", n_bins)
    require_choice(function, "binning", binning, ("uniform", "quantile"))
    require_count(function, "n_resamples", n_resamples, 19)
    return take_forecasts(function, probs, y, kind)


def _error_test(
    columns: Float64,
    bins: partial[Float64],
    norm: str,
    level: float,
    n_resamples: int,
    seed: int,
) -> CalibrationErrorTest:
    stated, event = columns
    member = bins(stated)
    observed = float(_errors(stated, event[None], member, norm)[0])
    drawn = np.concatenate(
        [_errors(stated, some, member, norm) for some in outcomes(stated, n_resamples, seed)]
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    mean = float(drawn.mean())
    p_value = monte_carlo_p(observed, drawn)
    return CalibrationErrorTest(
        observed, p_value, mean, low, high, observed - mean, level, event.size
    )


def _errors(stated: Float64, events: Float64, member: Float64, norm: str) -> Float64:
    """Calibration errors (R,) of outcomes (R, N) in bins given by their membership (N, B)."""
    sums = np.abs((stated - events) @ member)
    count = member.sum(axis=0)
    used = count > 0
    gaps: Float64 = sums[:, used] / count[used]
    if norm == "max":
        return gaps.max(axis=1)
    share = count[used] / count.sum()
    return gaps @ share if norm == "l1" else np.sqrt(np.square(gaps) @ share)


@finished
def consistency_band(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
    kind: Literal["top_label", "binary"] = "top_label",
    level: float = 0.95,
    simultaneous: bool = False,
    n_resamples: int = 999,
    seed: int = 0,
) -> Reduction[ConsistencyBand]:
    """Range in which the points of `reliability_curve` lie if the model is calibrated.

    Outcomes are drawn from the stated probabilities and counted in the same bins. A point
    outside its range is evidence against calibration, a point off the diagonal is not. Of B
    points, (1 - level) B lie outside for a calibrated model, unless the band is simultaneous.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones. They do not enter the band.
        n_bins: As in `reliability_curve`.
        binning: As in `reliability_curve`.
        kind: As in `reliability_curve`.
        level: Chance that a point lies inside, in (0, 1).
        simultaneous: Whether all points together lie inside with that chance (Bonferroni).
        n_resamples: Number of drawings.
        seed: Seed of the drawings.

    Returns:
        The band, one range for each bin.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Broecker & Smith (2007), Increasing the reliability of reliability diagrams.

    Example:
        >>> band = consistency_band([0.5] * 100, [1] * 100, n_bins=1, kind="binary")
        >>> bool(0.38 < band.low[0] < 0.42), bool(0.58 < band.high[0] < 0.62)
        (True, True)
    """
    function = "consistency_band"
    require_unit(function, "level", level)
    require_flag(function, "simultaneous", simultaneous)
    require_count(function, "seed", seed, 0)
    forecasts = _take(function, probs, y, kind, n_bins, binning, n_resamples)
    end = partial(
        _band,
        bins=partial(membership, n_bins=n_bins, binning=binning, dtype=forecasts.dtype),
        level=level,
        simultaneous=simultaneous,
        n_resamples=n_resamples,
        seed=seed,
    )
    return Reduction(forecasts.forecast, end, additive=False)


def _band(
    columns: Float64,
    bins: partial[Float64],
    level: float,
    simultaneous: bool,
    n_resamples: int,
    seed: int,
) -> ConsistencyBand:
    stated = columns[0]
    member = bins(stated)
    count = member.sum(axis=0)
    tail = (1 - level) / 2 / (max(1, int((count > 0).sum())) if simultaneous else 1)
    events = [some @ member for some in outcomes(stated, n_resamples, seed)]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        frequency = np.concatenate(events) / count
        confidence = stated @ member / count
    # Rounded outward: a frequency takes few values in a small bin.
    low = np.quantile(frequency, tail, axis=0, method="lower")
    high = np.quantile(frequency, 1 - tail, axis=0, method="higher")
    return ConsistencyBand(confidence, low, high, np.rint(count).astype(np.int64), level)
