"""The first screen of a classification."""

from __future__ import annotations

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.metrics import risk_coverage_curve
from mcdrop.report.answers import (
    FirstScreen,
    comparison_answer,
    decided,
    finds_errors,
    repair_action,
    span_to,
)
from mcdrop.report.findings import VISIBLE_GAP, Evidence, comparison_actions, worst_slice
from mcdrop.report.findings_classification import error_of_the_rest
from mcdrop.report.hypotheses import rows_for_share
from mcdrop.report.measures import written
from mcdrop.report.repairs import LEAST_ROWS
from mcdrop.report.values import Answer, Grade, Mark

__all__ = ["classification_first_screen"]

_QUESTION = "Are the stated probabilities right?"
_REFERRED = 0.1


def classification_first_screen(c: Classification, evidence: Evidence) -> FirstScreen:
    """Answer the three questions and say what to do."""
    calibration = _calibration(c, evidence)
    nothing = "No row is wrong." if not c.wrong.any() else "All rows are wrong."
    if 0 < c.wrong.sum() < len(c.y):
        nothing = "All rows are equally uncertain."
    estimate = evidence.metrics.get("auroc_error")
    falls = estimate is not None and estimate.value < 0.5
    ranking = finds_errors(estimate, falls, evidence, "predictive entropy", nothing)
    comparison = comparison_answer(evidence)
    actions = [
        _repair(evidence) if calibration.grade == "no" else "",
        _collect(c, evidence) if calibration.grade == "undecided" else "",
        _refer(c, ranking),
        *comparison_actions(evidence),
    ]
    return FirstScreen(
        decided(calibration, ranking, comparison, evidence.n_rows),
        tuple(action for action in actions if action),
        (calibration, ranking, comparison),
    )


def _calibration(c: Classification, evidence: Evidence) -> Answer:
    """Answer whether what is stated with 80 % comes true in 80 %."""
    accuracy, stated = evidence.metrics["accuracy"], float(c.confidence.mean())
    needed = rows_for_share(stated, VISIBLE_GAP, evidence.level)
    grade: Grade
    if evidence.rejects("confidence"):
        high = stated > accuracy.value
        grade, word = "no", f"No: too {'high' if high else 'low'}"
    elif evidence.rejects("reliability"):
        grade, word = "no", "No: right on average only"
    elif (worst := worst_slice(evidence)) is not None:
        grade, word = "no", f"No: off where the {worst.group} is {worst.label}"
    elif evidence.n_rows >= needed:
        grade, word = "yes", "Yes"
    else:
        grade, word = "undecided", f"{evidence.n_rows} rows cannot tell"
    text = (
        f"The predicted class is right in this share of rows; its mean probability, the stated "
        f"confidence, is {100 * stated:.1f} %."
    )
    if grade == "undecided":
        text += f" About {needed} rows would show a gap of 5 points."
    mark = Mark("right", accuracy.value, accuracy.low, accuracy.high)
    span = span_to([accuracy.low, accuracy.high, stated], 0.0, 1.0)
    return Answer(
        _QUESTION,
        grade,
        word,
        f"{written('accuracy', accuracy)}, stated {100 * stated:.1f} %",
        text,
        (mark,),
        stated,
        "stated",
        span,
    )


def _repair(evidence: Evidence) -> str:
    """Say what recalibration would bring, or how many rows it would take to know."""
    if not evidence.repairs:
        if evidence.n_rows < LEAST_ROWS:
            return f"Collect at least {LEAST_ROWS} rows with labels to recalibrate on."
        # Without errors among four fifths of the rows no temperature is the best one.
        return "Collect more labels to recalibrate on: these rows hold too few errors to fit to."
    shown = {"ece": "the ECE (mean gap between confidence and accuracy)"}
    return repair_action(evidence.repairs, shown, evidence.metrics)


def _collect(c: Classification, evidence: Evidence) -> str:
    """Say how many rows would tell."""
    needed = rows_for_share(float(c.confidence.mean()), VISIBLE_GAP, evidence.level)
    return (
        f"Collect labels for about {needed} rows in all before you rely on the probabilities: "
        f"{evidence.n_rows} would not show a gap of 5 points."
    )


def _refer(c: Classification, ranking: Answer) -> str:
    """Say how many rows to refer, or not to."""
    if ranking.grade == "no":
        return "Do not choose rows for review by this uncertainty."
    if ranking.grade != "yes":
        return ""
    left, error = error_of_the_rest(c, _REFERRED), float(c.wrong.mean())
    curve = risk_coverage_curve(c.uncertainty, loss=c.wrong)
    halved = np.flatnonzero(curve.risk <= error / 2)
    share = 100 * (1 - float(curve.coverage[halved].max())) if len(halved) else 100.0
    half = f" Referring {share:.0f} % would halve it." if share < 50 else ""
    return (
        f"Refer the least sure 10 % of rows to a person: the error rate falls from "
        f"{100 * error:.1f} % to {written('accuracy', left)} on the rest.{half}"
    )
