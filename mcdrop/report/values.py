"""The values a report holds; builders fill them, renderers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mcdrop._engine.record import Run
from mcdrop.displays._curve import Curve
from mcdrop.metrics import Estimate
from mcdrop.report.measures import Outcome, Resampling

__all__ = ["ReportContents", "Verdict"]


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


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ReportContents:
    """Numbers, findings and figure points of a calibration report.

    Attributes:
        title: Heading of the report.
        name: Name of the main method.
        task: "regression" or "classification".
        n_rows: Rows that were compared.
        headline: The verdict in a sentence or two.
        findings: What the numbers say, most important first.
        metrics: Estimate with interval by metric, such as "rmse" or "coverage_90".
        baseline_metrics: The same by baseline.
        differences: Main minus baseline on the same rows, by baseline and metric.
        outcomes: What each difference says about the main method: "better", "worse", "undecided",
            "identical" or "descriptive".
        verdicts: Every hypothesis that was tested, by a short name such as "bias" or "nll against
            Ridge", all judged together.
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
    headline: str
    findings: tuple[str, ...]
    metrics: Mapping[str, Estimate]
    baseline_metrics: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    verdicts: Mapping[str, Verdict]
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

    def estimates(self, method: str) -> Mapping[str, Estimate]:
        """Return the estimates of one method by its name."""
        return self.metrics if method == self.name else self.baseline_metrics[method]
