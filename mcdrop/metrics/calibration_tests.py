"""Tests that class probabilities are calibrated, with exact or Monte Carlo null distributions.

The null hypothesis is always that outcomes were drawn from the stated probabilities, row by row.
Its distribution is computed or simulated, never approximated by a normal, so the false alarm rate
is at most the level at every number of rows, also for predictions that are almost certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from mcdrop.checks import require_choice, require_count
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import take_forecasts
from mcdrop.metrics._reduction import Reduction, finished

Direction = Literal[
    "overconfident",
    "underconfident",
    "too_high",
    "too_low",
    "too_narrow",
    "too_wide",
    "heavy_tails",
    "light_tails",
    "skewed",
    "mixed",
    "rising",
    "falling",
    "none",
]

# Uniforms drawn at once: 32 MiB of them.
_DRAWN_AT_ONCE = 2**22
# A resample equal to the observed value up to rounding counts as equal.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class CalibrationTest:
    """Outcome of a test, two-sided.

    Attributes:
        statistic: Of the test.
        p_value: Chance of a statistic at least as extreme under the null hypothesis.
        direction: Which way the data deviate, whether or not the deviation is significant:
            "overconfident" or "underconfident" (class probabilities); "too_high" or "too_low"
            (means, P(y = 1)); "too_narrow" or "too_wide" (spreads); "heavy_tails",
            "light_tails" or "skewed" (shapes); "mixed" (both ways in different rows); "rising"
            or "falling" (error against uncertainty); "none".
        n: Number of rows.
    """

    statistic: float
    p_value: float
    direction: Direction
    n: int


@finished
def confidence_test(
    probs: ArrayLike, y: ArrayLike, *, kind: Literal["top_label", "binary"] = "top_label"
) -> Reduction[CalibrationTest]:
    """Exact test that mean confidence agrees with accuracy: calibration in the large.

    Under the null hypothesis the number K of right predictions is a sum of independent
    Bernoulli(c_i) with c_i the stated confidences, a Poisson-binomial variable, whose
    distribution is computed exactly. p = min(1, 2 min(P(K <= k), P(K >= k))).

    Deviations of opposite sign can cancel; `calibration_test` finds these.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        kind: "top_label" for the confidence in the predicted class and whether it is right,
            "binary" for P(y = 1) and y.

    Returns:
        Mean confidence minus accuracy with its p-value; direction "overconfident" or
        "underconfident", for "binary" "too_high" or "too_low". The false alarm rate is at most
        the level for every N.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or `kind` is
            neither of the two names.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Hong (2013), On computing the distribution function for the Poisson binomial
        distribution; Cox (1958), Two further applications of a model for binary regression
        (calibration in the large).

    Example:
        >>> sure = [[0.95, 0.05]] * 10  # all ten right: 0.95^10 = 0.6 is no surprise
        >>> confidence_test(sure, [0] * 10).p_value
        1.0
        >>> test = confidence_test(sure, [0] * 7 + [1] * 3)
        >>> test.direction, round(test.p_value, 3)
        ('overconfident', 0.023)
    """
    columns = _columns("confidence_test", probs, y, kind)
    return Reduction(columns, partial(_in_the_large, kind=kind), additive=False)


def _columns(function: str, probs: ArrayLike, y: ArrayLike, kind: str) -> Float64:
    """Stated probability and outcome of each row, (2, N)."""
    require_choice(function, "kind", kind, ("top_label", "binary"))
    forecasts = take_forecasts(function, probs, y, kind)
    # Softmax in low precision may exceed 1 by a rounding.
    return np.concatenate([np.clip(forecasts.forecast, 0, 1), forecasts.event])


def _in_the_large(columns: Float64, kind: str) -> CalibrationTest:
    stated, event = columns
    chance = _poisson_binomial(stated)
    k = round(float(event.sum()))
    tails = chance[: k + 1].sum(), chance[k:].sum()
    gap = float((stated - event).mean())
    p_value = min(1.0, 2 * float(min(tails)))
    return CalibrationTest(gap, p_value, _sign(gap, kind), event.size)


def _sign(gap: float, kind: str) -> Direction:
    if abs(gap) < _ROUNDING:
        return "none"
    if kind == "binary":
        return "too_high" if gap > 0 else "too_low"
    return "overconfident" if gap > 0 else "underconfident"


def _poisson_binomial(p: Float64) -> Float64:
    """Probabilities of 0, ..., n successes: the product of n polynomials 1 - p_i + p_i x."""
    from scipy.fft import irfft, next_fast_len, rfft

    width = 1
    terms = np.stack([1 - p, p], axis=1)
    while len(terms) > 1:
        if len(terms) % 2:
            terms = np.concatenate([terms, np.eye(1, width + 1)])
        size = next_fast_len(2 * width + 1, real=True)
        waves = rfft(terms, size, axis=1)
        width *= 2
        terms = irfft(waves[::2] * waves[1::2], size, axis=1)[:, : width + 1]
    chance: Float64 = np.clip(terms[0, : p.size + 1], 0, 1)
    return chance / chance.sum()


@finished
def calibration_test(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    kind: Literal["top_label", "binary"] = "top_label",
    n_resamples: int = 999,
    seed: int = 0,
) -> Reduction[CalibrationTest]:
    """Monte Carlo test that confidence agrees with accuracy at every height of confidence.

    The statistic is the largest |sum of (confidence - right)| / N over the rows whose
    confidence lies in any one interval: Kuiper's statistic of the cumulative differences, with
    no bins to choose. Where confidence .6 is right 9 times in 10 and .9 is right 6 times in
    10, the overall gap is 0 and this is .15. Its null distribution is simulated by drawing
    outcomes from the stated probabilities: p = (1 + #{simulated >= observed}) / (R + 1).

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        kind: "top_label" for the confidence in the predicted class and whether it is right,
            "binary" for P(y = 1) and y.
        n_resamples: Number R of simulated data sets; the smallest p-value is 1 / (R + 1).
        seed: Seed of the simulation.

    Returns:
        The statistic with its p-value; direction as in `confidence_test`, but "mixed" where
        less than half of the largest gap is left over all rows. The false alarm rate is at
        most the level for every N, on average over seeds; at one seed it is within about
        sqrt(level / R) of that, 0.7 points at level 5 %.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Arrieta-Ibarra et al. (2022), Metrics of calibration for probabilistic predictions
        (ECCE-R); Broecker & Smith (2007) for drawing outcomes from the stated probabilities.

    Example:
        >>> p = [0.6] * 50 + [0.9] * 50
        >>> right = [1] * 45 + [0] * 5 + [1] * 30 + [0] * 20
        >>> test = calibration_test(p, right, kind="binary")
        >>> test.direction, round(test.statistic, 2), test.p_value
        ('mixed', 0.15, 0.001)
    """
    require_count("calibration_test", "n_resamples", n_resamples, 19)
    require_count("calibration_test", "seed", seed, 0)
    columns = _columns("calibration_test", probs, y, kind)
    end = partial(_at_every_height, kind=kind, n_resamples=n_resamples, seed=seed)
    return Reduction(columns, end, additive=False)


def _at_every_height(columns: Float64, kind: str, n_resamples: int, seed: int) -> CalibrationTest:
    stated, event = columns[:, np.argsort(columns[0], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(stated) > 0, True))
    observed = _kuiper(stated, event[None], last)[0]
    simulated = np.concatenate(
        [_kuiper(stated, drawn, last) for drawn in outcomes(stated, n_resamples, seed)]
    )
    gap = float((stated - event).mean())
    direction = _sign(gap, kind)
    if observed > _ROUNDING and abs(gap) < observed / 2:
        direction = "mixed"
    return CalibrationTest(
        float(observed), monte_carlo_p(float(observed), simulated), direction, event.size
    )


def _kuiper(stated: Float64, events: Float64, last: npt.NDArray[np.int64]) -> Float64:
    """Largest gap over intervals of sorted confidence, for outcomes (R, N)."""
    path = np.cumsum(stated - events, axis=1)[:, last]
    spread: Float64 = np.maximum(path.max(axis=1), 0) - np.minimum(path.min(axis=1), 0)
    return spread / stated.size


def outcomes(stated: Float64, n_resamples: int, seed: int) -> Iterator[Float64]:
    """Draw outcomes (R, N) from the stated probabilities, some resamples at a time."""
    draw = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // stated.size)
    for start in range(0, n_resamples, at_once):
        size = min(at_once, n_resamples - start)
        yield (draw.uniform(size=(size, stated.size)) < stated).astype(np.float64)


def monte_carlo_p(observed: float, simulated: Float64) -> float:
    """Share of the observed and simulated statistics that are at least the observed one."""
    return float((1 + (simulated >= observed - _ROUNDING).sum()) / (simulated.size + 1))


def holm(p_values: ArrayLike) -> Float64:
    """Adjust p-values of several tests, so that any false alarm among them keeps the level.

    Sorted p_(1) <= ... <= p_(m) become max over j <= i of min(1, (m - j + 1) p_(j)). Rejecting
    where the adjusted value is at most the level bounds the chance of one or more false alarms
    by the level, however the tests depend on each other.

    Args:
        p_values: One p-value per test, shape (M,).

    Returns:
        Adjusted p-values in the order given, shape (M,).

    Raises:
        RangeError: If a value lies outside [0, 1].

    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()  # 3 * 0.01, then 2 * 0.03, then its maximum
        [0.03, 0.06, 0.06]
    """
    p = np.atleast_1d(np.asarray(p_values, np.float64))
    if p.ndim != 1 or not bool(((p >= 0) & (p <= 1)).all()):
        remedy = "Pass the p_value of each test"
        raise RangeError.of("holm", "p_values", "be a list of numbers in [0, 1]", p_values, remedy)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
