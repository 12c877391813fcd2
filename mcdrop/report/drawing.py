"""Figures drawn from their points, and written as SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcdrop.checks import require_installed
from mcdrop.displays._curve import Curve
from mcdrop.displays._style import GREY, GRID, INK, PALETTE, blank, house_style, key_above, look_of
from mcdrop.report.figures import FIGURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "svg"]

_TIP = "tip-"

# What the style sheet of the page defines for its light and its dark theme.
_VARIABLES = {
    INK: "ink",
    GREY: "soft",
    GRID: "grid",
    "#ffffff": "paper",
    **{color: f"color-{i}" for i, color in enumerate(PALETTE)},
}


def draw(name: str, curves: Sequence[Curve], methods: Sequence[str]) -> Figure:
    """Draw the figure called `name`; the first curve is drawn with its intervals."""
    require_installed("CalibrationReport.figures", "matplotlib", "report")
    with house_style():
        figure, axes = blank()
        displays = [FIGURES[name].display(curve, name=curve.method) for curve in curves]
        keys = displays[0].draw_reference(axes)
        handles = [
            display.draw(axes, look_of(list(methods).index(display.curve.method)))
            for display in displays
        ]
        displays[0].finish(axes)
        _add_tips(axes, displays[0].shown())
        labels = [display.curve.method for display in displays]
        key_above(figure, [*handles, *keys.values()], [*labels, *keys])
        return figure


def _add_tips(axes: Axes, curve: Curve) -> None:
    """Put an invisible mark on every point, whose value a page shows when it is pointed at."""
    for i, text in enumerate(_tips(curve)):
        mark = axes.plot(curve.x[i], curve.y[i], marker="o", markersize=14, alpha=0, zorder=9)[0]
        mark.set_gid(f"{_TIP}{i} {text}")


def _tips(curve: Curve) -> list[str]:
    """Return position, height, interval and rows of each point as text."""
    texts = []
    for i, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
        ends = f" [{curve.low[i]:.3g}, {curve.high[i]:.3g}]" if curve.low else ""
        rows = f", {curve.count[i]} rows" if curve.count else ""
        texts.append(f"{y:.3g}{ends} at {x:.3g}{rows}")
    return texts


def svg(figure: Figure, prefix: str) -> str:
    """Return a figure as an SVG element that scales with the page and follows its theme.

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
    drawing = re.sub(rf'<g id="({_TIP}\d+) ([^"]*)">', r'<g id="\1"><title>\2</title>', drawing)
    drawing = re.sub(r'\bid="', f'id="{prefix}-', drawing)
    drawing = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", drawing)
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _themed, drawing).strip()


def _themed(color: re.Match[str]) -> str:
    """Return a color of the palette as the page's variable, with the color to fall back to."""
    name = _VARIABLES.get(color[2])
    return f"{color[1]}: var(--{name}, {color[2]})" if name else color[0]
