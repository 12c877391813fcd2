"""The calibration report: its contents and the methods that write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcdrop.report.drawing import draw
from mcdrop.report.html import fragment, page
from mcdrop.report.markdown import markdown
from mcdrop.report.record import record
from mcdrop.report.values import ReportContents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CalibrationReport"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CalibrationReport(ReportContents):
    """How well a prediction's stated uncertainty agrees with the targets.

    The numbers are attributes, listed at `ReportContents`; the methods write them.
    """

    def figures(self) -> dict[str, Figure]:
        """Draw every figure anew.

        Returns:
            Matplotlib figures by name, free of pyplot: "coverage" and "pit" for regression,
            "reliability" for classification, "error_by_uncertainty" and "referral" for both.

        Raises:
            UnsupportedError: If matplotlib is not installed.
        """
        return {name: draw(name, curves, self.methods) for name, curves in self.curves.items()}

    def to_html(self, path: str | Path, *, date: str | None = None) -> Path:
        """Write the report as one self-contained page.

        Args:
            path: File to write; an existing one is replaced.
            date: Shown below the title as it is. By default there is none, so that the same
                report is the same file.

        Returns:
            The path.

        Raises:
            UnsupportedError: If matplotlib or jinja2 is not installed.
        """
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
        path = Path(path)
        text = json.dumps(record(self), allow_nan=False, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def to_markdown(self) -> str:
        """Return headline, findings and tables as Markdown, without figures."""
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
        return fragment(self)
