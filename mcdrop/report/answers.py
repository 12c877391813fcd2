"""The first screen: three questions, whether to act, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcdrop.metrics import Estimate
from mcdrop.report.findings import Evidence, joined, leading
from mcdrop.report.hypotheses import rows_for_correlation
from mcdrop.report.measures import MEASURES, signed, written
from mcdrop.report.repairs import LEAST_ROWS
from mcdrop.report.values import Answer, Grade, Mark, Repair

__all__ = [
    "FirstScreen",
    "comparison_answer",
    "decided",
    "finds_errors",
    "repair_action",
    "span_to",
]

_FINDS = "Does the uncertainty find the errors?"
_BEATS = "Does it beat simple methods?"
# Below this AUROC a link that is there is of little use: 2 of 3 pairs are ordered rightly.
_WEAK = 0.65
_VISIBLE_CORRELATION = 0.2
# What a score is, where it is used first.
_EXPLAINED = {
    "nll": "NLL, minus the log of the probability given to what happened",
    "crps": "CRPS, the mean absolute error generalized to distributions",
    "brier": "Brier score, the squared error of the probabilities",
}


@dataclass(frozen=True)
class FirstScreen:
    """Whether to act, what to do, and the three answers."""

    decision: str
    actions: tuple[str, ...]
    answers: tuple[Answer, ...]


def decided(calibration: Answer, ranking: Answer, comparison: Answer, n_rows: int) -> str:
    """Return whether to act on the predictions, in a few words."""
    if calibration.grade == "no":
        return "Not as they are"
    if calibration.grade == "missing":
        return "Not on their uncertainty: there is none"
    if comparison.grade == "no":
        return "A simple method does better"
    if ranking.word.startswith("No: backwards"):
        return "Not row by row"
    if calibration.grade == "undecided":
        return f"{'Not yet' if n_rows < LEAST_ROWS else 'With care'}: too few rows to tell"
    if ranking.grade == "no":
        return "On the whole, not row by row"
    return "Yes, as far as these rows show"


def finds_errors(
    estimate: Estimate | None, falls: bool, evidence: Evidence, what: str, nothing: str
) -> Answer:
    """Answer whether uncertain rows are the ones with errors.

    Args:
        estimate: AUROC of errors; None if it is not defined.
        falls: Whether errors fall as the uncertainty grows.
        evidence: The page's verdicts.
        what: Such as "predictive entropy".
        nothing: Why there is nothing to judge, if there is nothing.
    """
    if estimate is None or "ranking" not in evidence.verdicts:
        return Answer(_FINDS, "missing", "Nothing to judge", "", nothing)
    needed = rows_for_correlation(_VISIBLE_CORRELATION, evidence.level)
    text = (
        "Error AUROC: of two rows, how often the one with the larger error has the larger "
        f"{what}. 0.5 is guessing, 1 is perfect."
    )
    grade: Grade
    if evidence.rejects("ranking"):
        grade, word = ("no", "No: backwards") if falls else ("yes", "Yes")
        if not falls and estimate.value < _WEAK:
            word = "Yes, weakly"
    elif evidence.n_rows >= needed:
        grade, word = "no", "No"
    else:
        grade, word = "undecided", f"{evidence.n_rows} rows cannot tell"
        text += f" About {needed} rows would."
    mark = Mark("this prediction", estimate.value, estimate.low, estimate.high)
    span = (min(0.5, estimate.low) - 0.02, 1.0)
    number = f"{written('auroc_error', estimate)}, guessing 0.5"
    return Answer(_FINDS, grade, word, number, text, (mark,), 0.5, "guessing", span)


def comparison_answer(evidence: Evidence) -> Answer:
    """Answer whether the method beats its baselines by the leading score."""
    marks, outcomes, key = [], {}, None
    for baseline, differences in evidence.differences.items():
        found = leading(differences)
        if found is None or key not in (None, found):
            continue
        key, d = found, differences[found]
        marks.append(Mark(baseline, d.value, d.low, d.high))
        outcomes[baseline] = evidence.outcomes[baseline][found]
    if key is None:
        text = "Pass baselines= to see whether a simpler method would do as well."
        return Answer(_BEATS, "missing", "Not compared", "", text)
    grade: Grade
    by = {o: [b for b, found in outcomes.items() if found == o] for o in outcomes.values()}
    if "worse" in by:
        grade, word, shown = "no", f"No: beaten by {joined(by['worse'])}", by["worse"][0]
    elif set(by) <= {"better"}:
        grade, word, shown = "yes", "Yes", next(iter(outcomes))
    elif set(by) <= {"identical"}:
        grade, word, shown = (
            "no",
            f"No: identical to {joined(by['identical'])}",
            next(iter(outcomes)),
        )
    else:
        open_ones = [b for b, o in outcomes.items() if o != "better"]
        grade, word, shown = "undecided", f"Not shown to beat {joined(open_ones)}", open_ones[0]
    difference = evidence.differences[shown][key]
    number = f"{MEASURES[key].label} {signed(key, difference)} against {shown}"
    text = f"Difference of {_EXPLAINED[key]} ({_unit(key)}): below 0 is better."
    ends = [end for mark in marks for end in (mark.low, mark.high)]
    span = span_to([0.0, *ends])
    return Answer(_BEATS, grade, word, number, text, tuple(marks), 0.0, "equal", span)


def _unit(key: str) -> str:
    return MEASURES[key].unit or "no unit"


def span_to(
    values: Sequence[float], low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Return the ends of an axis that holds the values with some air, within given limits."""
    first, last = min(values), max(values)
    air = 0.15 * (last - first) or 1.0
    start, end = first - air, last + air
    return (start if low is None else max(low, start), end if high is None else min(high, end))


def repair_action(
    repairs: Sequence[Repair], shown: Mapping[str, str], before: Mapping[str, Estimate]
) -> str:
    """Say which recalibration brings most on rows it was not fitted on, and how much.

    Args:
        repairs: What each recalibration would bring.
        shown: Metrics to tell before and after, with their names in a sentence.
        before: Estimates without recalibration.
    """
    scored = [(leading(r.differences), r) for r in repairs]
    gains = [(r.differences[key].value, key, r) for key, r in scored if key is not None]
    if not gains:
        return ""
    _, key, best = min(gains, key=lambda gain: gain[0])
    gain = best.differences[key]
    label = MEASURES[key].label
    changes = [
        f"{name} from {written(metric, before[metric])} to {written(metric, best.metrics[metric])}"
        for metric, name in shown.items()
        if metric in best.metrics and metric in before
    ]
    changes.append(f"{label} by {signed(key, gain)}")
    if gain.high >= 0:
        return (
            f"Recalibration brings no gain that shows: {best.method}, fitted on other rows than it "
            f"is scored on, brings {', '.join(changes)}."
        )
    return (
        f"Recalibrate with {best.method} on held-out rows. Fitted on other rows than it is scored "
        f"on, it would bring {', '.join(changes)}."
    )
