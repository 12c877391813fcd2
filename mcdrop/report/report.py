"""The calibration report: its contents and the methods that write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcdrop._disk.atomic import writing
from mcdrop.report.drawing import draw
from mcdrop.report.html import encoded, fragment, page
from mcdrop.report.markdown import markdown
from mcdrop.report.model_card import model_card
from mcdrop.report.record import record
from mcdrop.report.values import ReportContents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CalibrationReport"]


def written(path: Path, text: str) -> Path:
    """Write a text file whole or not at all."""
    with writing(path) as file:
        file.write(encoded(text))
    return path


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
        return written(Path(path), page(self, date=date))

    def to_json(self, path: str | Path) -> Path:
        """Write every number of the report as strict JSON; a missing one is null with a reason.

        Args:
            path: File to write; an existing one is replaced.

        Returns:
            The path.
        """
        text = json.dumps(record(self), allow_nan=False, indent=2, ensure_ascii=False)
        return written(Path(path), text + "\n")

    def to_markdown(self) -> str:
        """Return headline, findings and tables as Markdown, without figures."""
        return markdown(self)

    def to_model_card(
        self,
        path: str | Path | None = None,
        *,
        model_name: str | None = None,
        dataset: str = "test rows",
        dataset_type: str = "test",
        task: str | None = None,
    ) -> str:
        """Return a model card: Hugging Face's metadata with every metric, then the report.

        Each metric carries its interval under `args`: low, high, level, how it was made and the
        number of rows.

        Args:
            path: File to write as well; an existing one is replaced.
            model_name: Name of the model; by default the title of the report.
            dataset: Name of the data that were judged.
            dataset_type: Its identifier on the hub.
            task: Identifier of the task on the hub; by default tabular regression or
                classification.

        Returns:
            The card as text: YAML between two lines of dashes, then Markdown.

        Example:
            >>> import torch
            >>> from mcdrop.prediction import RegressionPrediction
            >>> from mcdrop.report import calibration_report
            >>> one = torch.ones(20)
            >>> p = RegressionPrediction(mean=0 * one, epistemic_variance=0 * one,
            ...     aleatoric_variance=one, mcse=0 * one, n_samples=0, family="normal")
            >>> card = calibration_report(p, torch.linspace(-2, 2, 20)).to_model_card()
            >>> card.splitlines()[1]
            'tags: ["uncertainty", "calibration", "monte-carlo-dropout"]'
        """
        card = model_card(
            self,
            model_name=model_name or self.title,
            dataset=dataset,
            dataset_type=dataset_type,
            task=task,
        )
        if path is not None:
            written(Path(path), card)
        return card

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
