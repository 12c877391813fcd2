"""The calibration report as a value: numbers, findings and points, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mcdrop._engine.record import Run
from mcdrop.metrics import Estimate
from mcdrop.report.curves import Curve
from mcdrop.report.measures import Resampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CalibrationReport"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CalibrationReport:
    """How well a prediction's stated uncertainty agrees with what happened.

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

    def figures(self) -> dict[str, Figure]:
        """Draw every figure anew.

        Returns:
            Matplotlib figures by name, free of pyplot: "coverage", "error_by_std" and "pit" for
            regression; "reliability", "error_by_entropy" and "referral" for classification.
        """
        from mcdrop.report.drawing import draw

        return {name: draw(name, curves, self.methods) for name, curves in self.curves.items()}

    def to_html(self, path: str | Path, *, date: str | None = None) -> Path:
        """Write the report as one self-contained page.

        Args:
            path: File to write; an existing one is replaced.
            date: Shown below the title as it is. By default there is none, so that the same
                report is the same file.

        Returns:
            The path.
        """
        from mcdrop.report.html import page

        path = Path(path)
        path.write_text(page(self, date=date), encoding="utf-8")
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write every number of the report as strict JSON; a missing one is null with a reason.

        Args:
            path: File to write; an existing one is replaced.

        Returns:
            The path.
        """
        import json

        from mcdrop.report.record import record

        path = Path(path)
        text = json.dumps(record(self), allow_nan=False, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def to_markdown(self) -> str:
        """Return headline, findings and tables as Markdown, without figures."""
        from mcdrop.report.markdown import markdown

        return markdown(self)

    def __str__(self) -> str:
        """Return the report as Markdown."""
        return self.to_markdown()

    def __repr__(self) -> str:
        """Return one line: what was compared on how many rows, and the headline."""
        return (
            f"CalibrationReport({self.task}, {self.n_rows} rows, "
            f"{' vs '.join(self.methods)}: {self.headline})"
        )

    def _repr_html_(self) -> str:
        """Return the page's content for a notebook cell."""
        from mcdrop.report.html import fragment

        return fragment(self)
