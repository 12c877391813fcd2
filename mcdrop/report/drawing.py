"""Figures drawn from their points, and written as SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcdrop.checks import require_installed
from mcdrop.report import figures_classification, figures_regression
from mcdrop.report.figures import house_style
from mcdrop.report.values import FigureCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "svg"]


def draw(name: str, curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Draw the figure called `name`."""
    require_installed("CalibrationReport.figures", "matplotlib", "report")
    painters = {
        "coverage": figures_regression.draw_coverage,
        "error_by_std": figures_regression.draw_error_by_std,
        "pit": figures_regression.draw_pit,
        "reliability": figures_classification.draw_reliability,
        "error_by_entropy": figures_classification.draw_error_by_entropy,
        "referral": figures_classification.draw_referral,
    }
    with house_style():
        return painters[name](curves, methods)


def svg(figure: Figure, prefix: str) -> str:
    """Return a figure as an SVG element that scales with the page.

    Args:
        figure: The figure.
        prefix: Put before every id, so that figures on one page keep their ids apart.
    """
    buffer = io.StringIO()
    with house_style(), warnings.catch_warnings():
        # The page's own font shows letters that matplotlib's lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'\bid="', f'id="{prefix}-', drawing)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", drawing).strip()
