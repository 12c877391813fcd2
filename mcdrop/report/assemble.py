"""The parts of a report that every task has: estimated, compared, judged and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mcdrop.displays._classification import Classification
from mcdrop.displays._regression import Regression
from mcdrop.metrics import Estimate
from mcdrop.prediction.base import Prediction
from mcdrop.report.acceptance import Acceptance, checked_acceptance, checks_of
from mcdrop.report.answers import FirstScreen
from mcdrop.report.answers_classification import classification_first_screen
from mcdrop.report.answers_regression import regression_first_screen
from mcdrop.report.classification import classification_scores
from mcdrop.report.figures import figure_curves
from mcdrop.report.findings import Evidence
from mcdrop.report.findings_classification import classification_findings
from mcdrop.report.findings_regression import regression_findings
from mcdrop.report.hypotheses import Hypothesis, comparison_key, comparisons, verdicts
from mcdrop.report.hypotheses_classification import classification_hypotheses
from mcdrop.report.hypotheses_regression import regression_hypotheses
from mcdrop.report.measures import NamedScores, Outcome, Resampling, Score, identical, outcome
from mcdrop.report.regression import regression_scores
from mcdrop.report.repairs import repairs
from mcdrop.report.rows import rows_to_look_at
from mcdrop.report.shift import shift_of
from mcdrop.report.slices import Groups, flagged, slice_hypothesis, slices_of
from mcdrop.report.values import Verdict

__all__ = ["CLASSIFICATION", "REGRESSION", "Task", "Wishes", "assembled"]

T = TypeVar("T", Regression, Classification)


@dataclass(frozen=True)
class Task(Generic[T]):
    """The functions that are specific to one task."""

    name: str
    scores: Callable[[T], NamedScores]
    hypotheses: Callable[[T, int], dict[str, Hypothesis]]
    findings: Callable[[T, Evidence], tuple[str, tuple[str, ...]]]
    first_screen: Callable[[T, Evidence], FirstScreen]


REGRESSION = Task(
    "regression",
    regression_scores,
    regression_hypotheses,
    regression_findings,
    regression_first_screen,
)
CLASSIFICATION = Task(
    "classification",
    classification_scores,
    classification_hypotheses,
    classification_findings,
    classification_first_screen,
)


@dataclass(frozen=True)
class Wishes:
    """What the caller asked for beyond the numbers; checked where it does not need the scores."""

    acceptance: Acceptance | None
    groups: Groups
    ids: Sequence[str]
    class_names: Sequence[str] | None
    shifted: Mapping[str, Prediction | None]


def assembled(
    methods: Mapping[str, T], task: Task[T], resampling: Resampling, wishes: Wishes
) -> dict[str, Any]:
    """Return the fields of a report that follow from predictions, targets and wishes."""
    scores = {name: task.scores(method) for name, method in methods.items()}
    main, *others = methods
    judged = methods[main]
    bounds = checked_acceptance(wishes.acceptance, list(scores[main]))
    estimates = {name: resampling.estimates(score) for name, score in scores.items()}
    differences = {b: resampling.differences(scores[main], scores[b]) for b in others}
    slices = slices_of(judged, wishes.groups, wishes.class_names)
    hypotheses = task.hypotheses(judged, resampling.seed)
    hypotheses |= slice_hypothesis(slices, task.name)
    hypotheses |= comparisons(scores, resampling.seed)
    judgments = verdicts(hypotheses, 1 - resampling.level)
    outcomes = {b: _outcomes(scores[main], scores[b], differences[b], judgments, b) for b in others}
    evidence = Evidence(
        name=main,
        n_rows=len(judged.y),
        metrics=estimates[main],
        differences=differences,
        outcomes=outcomes,
        verdicts=judgments,
        resampling=resampling,
        repairs=repairs(judged, resampling),
        slices=flagged(slices, judgments.get("slices"), 1 - resampling.level),
    )
    headline, findings = task.findings(judged, evidence)
    first_screen = task.first_screen(judged, evidence)
    return {
        "task": task.name,
        "decision": first_screen.decision,
        "headline": headline,
        "actions": first_screen.actions,
        "answers": first_screen.answers,
        "findings": findings,
        "metrics": estimates[main],
        "baseline_metrics": {b: estimates[b] for b in others},
        "differences": differences,
        "outcomes": outcomes,
        "verdicts": judgments,
        "repairs": evidence.repairs,
        "acceptance": checks_of(judged, task.scores, bounds, resampling),
        "slices": evidence.slices,
        "rows": rows_to_look_at(judged, wishes.ids, wishes.class_names),
        "shift": next(
            (shift_of(judged, p, name) for name, p in wishes.shifted.items() if p is not None), None
        ),
        "notes": {n: {key: s.note for key, s in score.items()} for n, score in scores.items()},
        "curves": figure_curves(methods),
    }


def _outcomes(
    main: NamedScores,
    other: NamedScores,
    differences: Mapping[str, Estimate],
    judged: Mapping[str, Verdict],
    baseline: str,
) -> dict[str, Outcome]:
    """Say of every difference whether the main method is better, worse or identical."""
    found: dict[str, Outcome] = {}
    for key, difference in differences.items():
        a, b, name = main[key], other[key], comparison_key(key, baseline)
        if isinstance(a, Score) and isinstance(b, Score) and identical(a, b):
            found[key] = "identical"
        else:
            found[key] = outcome(key, difference, name in judged and judged[name].rejected)
    return found
