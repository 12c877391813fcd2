"""Acceptance criteria: numbers that have to be shown, not only observed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from mcdrop.checks import checked_mapping
from mcdrop.displays._classification import Classification
from mcdrop.displays._regression import Regression
from mcdrop.errors import RangeError
from mcdrop.report.measures import MEASURES, Missing, NamedScores, Resampling
from mcdrop.report.values import Check, CheckOutcome

__all__ = ["Acceptance", "checked_acceptance", "checks_of"]

Acceptance: TypeAlias = Mapping[str, float | tuple[float, float]]
Bounds: TypeAlias = Mapping[str, tuple[float, float]]

_FUNCTION = "calibration_report"


def checked_acceptance(acceptance: Acceptance | None, known: list[str]) -> Bounds:
    """Return the bounds of every criterion; a single number bounds the better way.

    Args:
        acceptance: By metric, (low, high), or one number: the least where higher is better, the
            most where lower is better.
        known: Metrics of the report.

    Raises:
        RangeError: If a metric is not in the report, bounds are no two increasing numbers, or one
            number is given where neither way is better.
    """
    bounds = {}
    for metric, wanted in checked_mapping(_FUNCTION, "acceptance", acceptance).items():
        argument = f'acceptance["{metric}"]'
        if metric not in known:
            raise RangeError.of(
                _FUNCTION, "acceptance", f"name metrics among {known}", repr(metric), "Correct it"
            )
        if isinstance(wanted, int | float) and not isinstance(wanted, bool):
            better = MEASURES[metric].better
            if better == "neither":
                raise RangeError.of(
                    _FUNCTION,
                    argument,
                    "be a pair (low, high), as neither way is better",
                    repr(wanted),
                    "Pass the range that is acceptable",
                )
            pair = (float(wanted), math.inf) if better == "higher" else (-math.inf, float(wanted))
        else:
            pair = _pair(argument, wanted)
        if math.isnan(pair[0]) or math.isnan(pair[1]):
            raise RangeError.of(_FUNCTION, argument, "hold numbers", "NaN", "Pass the bounds")
        bounds[metric] = pair
    return bounds


def _pair(argument: str, wanted: object) -> tuple[float, float]:
    """Return two increasing numbers."""
    try:
        low, high = (float(end) for end in wanted)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if low > high:
        raise RangeError.of(
            _FUNCTION,
            argument,
            "be a number or a pair (low, high) with low <= high",
            repr(wanted),
            "Pass the range that is acceptable, such as (0.85, 0.95)",
        )
    return low, high


def checks_of(
    judged: Classification | Regression,
    scores: Callable[..., NamedScores],
    bounds: Bounds,
    resampling: Resampling,
) -> tuple[Check, ...]:
    """Judge every criterion by an interval; all of them hold together with the report's level.

    A criterion passes if its interval lies inside the bounds, fails if it lies outside, and is
    undecided otherwise. With k criteria each interval has the level 1 - (1 - level) / k
    (Bonferroni), so that any false outcome has a chance of at most 1 - level.
    """
    if not bounds:
        return ()
    shared = replace(resampling, level=1 - (1 - resampling.level) / len(bounds))
    found = scores(replace(judged, resampling=shared))
    checks = []
    for metric, (low, high) in bounds.items():
        score = found[metric]
        if isinstance(score, Missing):
            checks.append(Check(metric, low, high, None, "undecided", score.note))
            continue
        estimate = shared.estimate(score)
        outcome: CheckOutcome = "undecided"
        if low <= estimate.low and estimate.high <= high:
            outcome = "pass"
        elif estimate.high < low or estimate.low > high:
            outcome = "fail"
        checks.append(Check(metric, low, high, estimate, outcome))
    return tuple(checks)
