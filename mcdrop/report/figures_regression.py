"""Figures of a regression report: coverage, error against stated uncertainty, PIT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mcdrop.report.figures import (
    FIGURES,
    blank,
    diagonal,
    key_above,
    looks,
    percent,
    points,
    span_of,
)
from mcdrop.report.values import FigureCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_coverage", "draw_error_by_std", "draw_pit"]


def draw_coverage(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Observed against nominal coverage, the main method with its band."""
    figure, axes = blank(FIGURES["coverage"])
    handles = []
    for curve, look in looks(curves, methods):
        shown = percent(curve)
        if look.main:
            axes.fill_between(shown.x, shown.low, shown.high, color=look.color, alpha=0.15, lw=0)
        style = {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
        width, size = (2.0, 4) if look.main else (1.3, 0)
        handles += axes.plot(shown.x, shown.y, linewidth=width, markersize=size, **style)
    axes.set(xlim=(0, 100), ylim=(-2, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    handles.append(diagonal(axes, 0.0, 100.0))
    key_above(figure, handles, [*(curve.method for curve in curves), "as stated"])
    return figure


def draw_error_by_std(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Observed RMSE against stated standard deviation in groups of rows."""
    figure, axes = blank(FIGURES["error_by_std"])
    handles = [points(axes, c, look) for c, look in looks(curves, methods)]
    low, high = span_of([x for curve in curves for x in curve.x])
    handles.append(diagonal(axes, low, high))
    axes.set(xlim=(low, high), ylim=(0, None))
    key_above(figure, handles, [*(curve.method for curve in curves), "as stated"])
    return figure


def draw_pit(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Histogram of the PIT: bars for the main method, steps for baselines."""
    figure, axes = blank(FIGURES["pit"])
    handles, labels = [], []
    for curve, look in looks(curves, methods):
        shares = 100 * np.asarray(curve.y)
        edges = np.linspace(0, 1, len(shares) + 1)
        if look.main:
            low, high = 100 * curve.low[0], 100 * curve.high[0]
            bars = axes.bar(curve.x, shares, 0.92 / len(shares), color=look.color, alpha=0.75)
            band = axes.axhspan(low, high, color="#1d232b", alpha=0.12, lw=0, zorder=2.5)
            handles += [bars, band]
            labels += [curve.method, "range if calibrated"]
        else:
            outline = {"color": look.color, "linestyle": look.dashes, "linewidth": 1.5}
            handles.append(axes.stairs(shares, edges, baseline=None, zorder=3, **outline))
            labels.append(curve.method)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.grid(visible=False, axis="x")
    key_above(figure, handles, labels)
    return figure
