"""Figures of a classification report: reliability, error against entropy, referral."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcdrop.report.figures import (
    FIGURES,
    blank,
    calibrated_bars,
    diagonal,
    key_above,
    looks,
    percent,
    points,
)
from mcdrop.report.values import FigureCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_error_by_entropy", "draw_referral", "draw_reliability"]


def draw_reliability(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Accuracy against confidence, with the rows per bin of the main method below."""
    figure, axes = blank(FIGURES["reliability"])
    low = 100 * min((x for curve in curves for x in curve.x), default=0.0)
    start = max(0.0, 10 * (low // 10) - 2)
    handles = []
    for curve, look in looks(curves, methods):
        shown = percent(curve)
        if look.main:
            band = calibrated_bars(axes, shown)
        handles.append(points(axes, shown, look, weighed=True))
    handles += [diagonal(axes, 0.0, 100.0), band]
    axes.set(xlim=(start, 102), ylim=(-2, 102), xlabel="")
    axes.tick_params(labelbottom=False)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1], hspace=0.04)
    axes.set_subplotspec(grid[0])
    counts = figure.add_subplot(grid[1], sharex=axes)
    for curve, look in looks(curves, methods):
        if look.main:
            counts.bar([100 * x for x in curve.x], curve.count, 3.0, color=look.color, alpha=0.75)
    counts.set(xlabel=FIGURES["reliability"].x, ylabel="Rows")
    counts.locator_params(axis="y", nbins=3, integer=True)
    counts.tick_params(labelbottom=True)
    figure.align_ylabels([axes, counts])
    labels = [*(curve.method for curve in curves), "as stated", "range if calibrated"]
    key_above(figure, handles, labels)
    return figure


def draw_error_by_entropy(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Error rate against predictive entropy in groups of rows."""
    figure, axes = blank(FIGURES["error_by_entropy"])
    handles = [
        points(axes, percent(curve, x=False), look) for curve, look in looks(curves, methods)
    ]
    right = max(x for curve in curves for x in curve.x)
    axes.set(xlim=(-0.03 * right, 1.05 * right or 1.0), ylim=(0, None))
    key_above(figure, handles, [curve.method for curve in curves])
    return figure


def draw_referral(curves: Sequence[FigureCurve], methods: Sequence[str]) -> Figure:
    """Error rate on the rows kept against the share referred to a person."""
    figure, axes = blank(FIGURES["referral"])
    handles = []
    for curve, look in looks(curves, methods):
        shown = percent(curve)
        if look.main:
            axes.fill_between(shown.x, shown.low, shown.high, color=look.color, alpha=0.15, lw=0)
        width = 2.0 if look.main else 1.3
        style = {"color": look.color, "linestyle": look.dashes, "linewidth": width}
        handles += axes.plot(shown.x, shown.y, **style)
    axes.set(xlim=(0, 92), ylim=(0, None))
    key_above(figure, handles, [curve.method for curve in curves])
    return figure
