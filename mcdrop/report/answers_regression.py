"""The first screen of a regression."""

from __future__ import annotations

import numpy as np

from mcdrop.displays._regression import Regression
from mcdrop.metrics import rmse
from mcdrop.report.answers import (
    FirstScreen,
    comparison_answer,
    decided,
    finds_errors,
    repair_action,
    span_to,
)
from mcdrop.report.findings import VISIBLE_GAP, Evidence, comparison_actions, worst_slice
from mcdrop.report.hypotheses import rows_for_share
from mcdrop.report.hypotheses_regression import NOMINAL
from mcdrop.report.measures import written
from mcdrop.report.repairs import LEAST_ROWS
from mcdrop.report.values import Answer, Grade, Mark

__all__ = ["regression_first_screen"]

_QUESTION = "Are the stated intervals right?"
_REFERRED = 0.1
# Faults of the distribution in the order in which they are named, with the word for each.
_FAULTS = {
    "bias": "No: predictions are biased",
    "dispersion": "No: stated spread is off",
    "shape": "No: wrong shape",
    "by_row": "No: right on average only",
}


def regression_first_screen(r: Regression, evidence: Evidence) -> FirstScreen:
    """Answer the three questions and say what to do."""
    calibration = _calibration(evidence)
    estimate = evidence.metrics.get("auroc_error")
    nothing = (
        "The stated uncertainty is the same for all rows, so it cannot tell them apart."
        if r.has_spread
        else "No uncertainty is stated."
    )
    falls = estimate is not None and estimate.value < 0.5
    ranking = finds_errors(estimate, falls, evidence, "standard deviation", nothing)
    comparison = comparison_answer(evidence)
    actions = [
        _repair(r, evidence) if calibration.grade == "no" else "",
        _collect(evidence) if calibration.grade == "undecided" else "",
        _refer(r, ranking),
        *comparison_actions(evidence),
    ]
    return FirstScreen(
        decided(calibration, ranking, comparison, evidence.n_rows),
        tuple(action for action in actions if action),
        (calibration, ranking, comparison),
    )


def _calibration(evidence: Evidence) -> Answer:
    """Answer whether 90 % intervals hold 90 % of the targets, and nothing else is off."""
    if "coverage_90" not in evidence.metrics:
        return Answer(_QUESTION, "missing", "There are none", "", "No 90 % intervals are stated.")
    observed = evidence.metrics["coverage_90"]
    needed = rows_for_share(NOMINAL, VISIBLE_GAP, evidence.level)
    grade: Grade
    faults = [word for key, word in _FAULTS.items() if evidence.rejects(key)]
    if evidence.rejects("coverage_90"):
        grade, word = "no", f"No: too {'narrow' if observed.value < NOMINAL else 'wide'}"
    elif faults:
        grade, word = "no", faults[0]
    elif (worst := worst_slice(evidence)) is not None:
        grade, word = "no", f"No: off where the {worst.group} is {worst.label}"
    elif evidence.n_rows >= needed:
        grade, word = "yes", "Yes"
    else:
        grade, word = "undecided", f"{evidence.n_rows} rows cannot tell"
    text = "Share of targets inside their stated 90 % interval: 90 % if the intervals are right."
    if grade == "undecided":
        text += f" About {needed} rows would show a gap of 5 points."
    mark = Mark("inside", observed.value, observed.low, observed.high)
    span = span_to([observed.low, observed.high, NOMINAL], 0.0, 1.0)
    number = f"{written('coverage_90', observed)}, stated 90 %"
    return Answer(_QUESTION, grade, word, number, text, (mark,), NOMINAL, "stated", span)


def _repair(r: Regression, evidence: Evidence) -> str:
    """Say what recalibration would bring, or what has to come first."""
    if r.lacks_noise:
        return (
            "Predict with noise_std=, fitted on held-out rows by mcdrop.fit_noise_std: without it "
            "intervals describe the mean function, not single targets."
        )
    if not evidence.repairs:
        if evidence.n_rows < LEAST_ROWS:
            return f"Collect at least {LEAST_ROWS} rows with targets to recalibrate on."
        return "Fit the recalibration anew on rows like these."
    shown = {"coverage_90": "the coverage of 90 % intervals"}
    return repair_action(evidence.repairs, shown, evidence.metrics)


def _collect(evidence: Evidence) -> str:
    """Say how many rows would tell."""
    needed = rows_for_share(NOMINAL, VISIBLE_GAP, evidence.level)
    return (
        f"Collect targets for about {needed} rows in all before you rely on the intervals: "
        f"{evidence.n_rows} would not show a gap of 5 points."
    )


def _refer(r: Regression, ranking: Answer) -> str:
    """Say what referring the least sure rows would leave, or not to."""
    if ranking.grade == "no":
        return "Do not choose rows for review by this uncertainty."
    if ranking.grade != "yes":
        return ""
    order = np.argsort(r.uncertainty, kind="stable")
    kept = order[: len(order) - int(_REFERRED * len(order))]
    everything = r.resampling.bootstrap(rmse, r.prediction.mean, r.y)
    left = r.resampling.bootstrap(rmse, r.prediction.mean[kept], r.y[kept])
    return (
        f"Review the least sure 10 % of rows first: the RMSE of the rest is {written('rmse', left)}"
        f" units of y, against {written('rmse', everything)} on all rows."
    )
