"""The values a report holds; builders fill them, renderers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mcdrop._engine.record import Run
from mcdrop.displays._curve import Curve
from mcdrop.metrics import Estimate
from mcdrop.report.measures import Outcome, Resampling

__all__ = [
    "Answer",
    "Check",
    "CheckOutcome",
    "Grade",
    "Mark",
    "Repair",
    "ReportContents",
    "RowTable",
    "Shift",
    "Slice",
    "Verdict",
]

CheckOutcome = Literal["pass", "fail", "undecided"]

Grade = Literal["yes", "no", "undecided", "missing"]


@dataclass(frozen=True)
class Verdict:
    """A null hypothesis, judged together with all others of the page.

    Attributes:
        null: The hypothesis as a sentence without the final stop.
        p_value: Chance of a deviation at least this large if it holds.
        adjusted: The p-value adjusted for all hypotheses of the page (Holm).
        rejected: Whether it is rejected at the level that the page's verdicts share.
    """

    null: str
    p_value: float
    adjusted: float
    rejected: bool


@dataclass(frozen=True)
class Mark:
    """A number with its interval in the picture of an answer."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """The answer to one question of the first screen.

    Attributes:
        question: As a reader asks it.
        grade: "yes", "no", "undecided" (these rows cannot tell) or "missing" (not asked for, or
            nothing to judge).
        word: The grade in words, such as "No: too narrow".
        number: One number with its interval, as text; empty if there is none.
        text: What the number is, in plain words.
        marks: The number, or one for each baseline, for the picture.
        reference: Where a mark lies if all is well, or by chance; None without a picture.
        reference_label: What lies there.
        span: Ends of the picture's axis.
    """

    question: str
    grade: Grade
    word: str
    number: str
    text: str
    marks: tuple[Mark, ...] = ()
    reference: float | None = None
    reference_label: str = ""
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Repair:
    """What one recalibration would bring, measured on rows it was not fitted on.

    Attributes:
        method: Name of its class in `mcdrop.recalibration`.
        metrics: Estimate with interval by metric, after.
        differences: After minus before, on the same rows.
    """

    method: str
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


@dataclass(frozen=True)
class Check:
    """An acceptance criterion with its outcome.

    Attributes:
        metric: Name of the metric, such as "coverage_90".
        low: Least value that is acceptable; minus infinity if there is none.
        high: Largest value that is acceptable; infinity if there is none.
        estimate: The metric with an interval at the level that all criteria share; None if the
            prediction does not allow it.
        outcome: "pass" if the interval lies inside the bounds, "fail" if outside, else "undecided".
        reason: Why the metric is missing.
    """

    metric: str
    low: float
    high: float
    estimate: Estimate | None
    outcome: CheckOutcome
    reason: str = ""


@dataclass(frozen=True)
class Slice:
    """A part of the rows, with what is observed and what is stated for it.

    Attributes:
        group: What the rows are grouped by.
        label: Which group.
        n: Rows in it.
        observed: Accuracy, or coverage of 90 % intervals.
        stated: Mean confidence, or 0.9.
        p_value: Of the hypothesis that the two agree; None for slices by target, which are
            described only.
        adjusted: Adjusted for all slices and all other verdicts of the page.
        flagged: Whether the slice is off, at the level that all verdicts share.
    """

    group: str
    label: str
    n: int
    observed: Estimate
    stated: float
    p_value: float | None
    adjusted: float | None = None
    flagged: bool = False


@dataclass(frozen=True)
class RowTable:
    """Rows to look at, the first column being their ids.

    Attributes:
        title: What they are.
        by: What they were chosen by.
        columns: Names of the columns.
        rows: A cell for each column.
        places: Number of each row among those of the prediction.
        pictures: Images of these rows by what they show, uint8 (H, W) or (H, W, 3).
    """

    title: str
    by: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    places: tuple[int, ...] = ()
    pictures: Mapping[str, tuple[npt.NDArray[np.uint8], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )


@dataclass(frozen=True)
class Shift:
    """The uncertainty of a second data set beside that of the test rows.

    Attributes:
        name: Of the second data set.
        n: Rows in it.
        auroc: How often a row of it is less sure than a test row: 0.5 if the two look alike.
        mean_here: Mean uncertainty of the test rows.
        mean_there: Mean uncertainty of the second data set.
        above: Share of it that is less sure than 95 % of the test rows.
    """

    name: str
    n: int
    auroc: Estimate
    mean_here: float
    mean_there: float
    above: Estimate


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ReportContents:
    """Numbers, findings and figure points of a calibration report.

    Attributes:
        title: Heading of the report.
        name: Name of the main method.
        task: "regression" or "classification".
        n_rows: Rows that were compared.
        decision: Whether to act on the predictions, in a few words.
        headline: The worst finding, and how the method does against its baselines.
        actions: What to do, most important first.
        answers: The questions of the first screen, each with a graded answer.
        findings: What the numbers say, most important first.
        metrics: Estimate with interval by metric, such as "rmse" or "coverage_90".
        baseline_metrics: The same by baseline.
        differences: Main minus baseline on the same rows, by baseline and metric.
        outcomes: What each difference says about the main method: "better", "worse", "undecided",
            "identical" or "descriptive".
        verdicts: Every hypothesis that was tested, by a short name such as "bias" or "nll against
            Ridge", all judged together.
        acceptance: Acceptance criteria with their outcomes.
        slices: Calibration in parts of the rows.
        rows: The rows to look at.
        shift: The uncertainty of a second data set; None if there is none.
        command: How the report was called; empty if that was not passed.
        repairs: What each recalibration would bring, by cross-fitting.
        notes: By method and metric: how a number came about, or why it is missing.
        remarks: What a reader has to know about all numbers.
        curves: Points of each figure, one curve per method.
        resampling: How the intervals were made: level, n_resamples, seed.
        run: How the passes of the main prediction ran; None if it was not made by passes.
        monte_carlo_error: Root mean squared Monte Carlo standard error of the predictive mean or
            of the class probabilities; None if it was not made by passes.
    """

    title: str
    name: str
    task: Literal["regression", "classification"]
    n_rows: int
    decision: str
    headline: str
    actions: tuple[str, ...]
    answers: tuple[Answer, ...]
    findings: tuple[str, ...]
    metrics: Mapping[str, Estimate]
    baseline_metrics: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    verdicts: Mapping[str, Verdict]
    acceptance: tuple[Check, ...]
    slices: tuple[Slice, ...]
    rows: tuple[RowTable, ...]
    shift: Shift | None
    command: str
    repairs: tuple[Repair, ...]
    notes: Mapping[str, Mapping[str, str]]
    remarks: tuple[str, ...]
    curves: Mapping[str, tuple[Curve, ...]]
    resampling: Resampling
    run: Run | None
    monte_carlo_error: float | None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of all methods, the main one first."""
        return (self.name, *self.baseline_metrics)

    @property
    def accepted(self) -> CheckOutcome | None:
        """Outcome of all acceptance criteria together; None if there are none."""
        outcomes = {check.outcome for check in self.acceptance}
        if not outcomes:
            return None
        return "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"

    def estimates(self, method: str) -> Mapping[str, Estimate]:
        """Return the estimates of one method by its name."""
        return self.metrics if method == self.name else self.baseline_metrics[method]
