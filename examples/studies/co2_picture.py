"""The picture of the CO2 forecasts: four models beyond their data, and bands for a year."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from studies.study import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, Content, label, mean_and_error

__all__ = ["draw"]

TITLE = "Beyond the data ReLU bands grow, tanh bands do not; paths need bands of their own"
MODELS = {
    "dropout off": ("dropout off: no doubt at all", ORANGE),
    "Gaussian process": ("Gaussian process", GREEN),
    "MC dropout, ReLU": ("MC dropout, ReLU units", BLUE),
    "MC dropout, tanh": ("MC dropout, tanh units", BLUE),
}
BANDS = {"pointwise": ORANGE, "pathwise": BLUE, "stretched": GREY}
METHODS = ("dropout off", "MC dropout", "Gaussian process", "linear regression")


def draw(content: Content) -> Figure:
    """The four panels of 2016 with what came after, one forecast, and what bands hold."""
    figure = Figure(figsize=(11, 7))
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=13.5, fontweight="bold")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    found = content["extrapolation"]
    axes = top.subplots(1, 4, sharex=True, sharey=True)
    for ax, (name, (text, color)) in zip(axes, MODELS.items(), strict=True):
        _model(ax, found, name, color)
        ax.set_title(text, color=color, fontweight="bold")
    axes[0].set_ylabel("CO2 less its trend, ppm")
    label(axes[0], 1994, 19, "what came", GREY, ha="right")
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.2))
    _year(left, content["forecasts"]["shown"])
    _held(right, content)
    return figure


def _model(ax: Axes, found: dict[str, Any], name: str, color: str) -> None:
    """Draw the truth, the mean, and half standard deviations up to 2 as the paper does."""
    grid = np.array(found["grid"])
    mean, std = np.array(found["curves"][name])
    for k in (2.0, 1.5, 1.0, 0.5):
        ax.fill_between(grid, mean - k * std, mean + k * std, color=color, alpha=0.15, lw=0)
    ax.plot(*found["beyond"], color=GREY, lw=0.8)
    ax.plot(*found["known"], color=INK, lw=1)
    ax.plot(grid, mean, color=color, lw=1.5)
    ax.axvline(found["known"][0][-1], color=GREY, ls="--", lw=1)
    ax.set_ylim(-22, 22)


def _year(ax: Axes, shown: dict[str, Any]) -> None:
    """Draw the last year with both bands and a few paths."""
    months = np.arange(1, len(shown["truth"]) + 1)
    for path in shown["paths"]:
        ax.plot(months, path, color=LIGHT, lw=1)
    for name in ("pathwise", "pointwise"):
        lower, upper = shown[name]
        ax.plot(months, lower, color=BANDS[name], ls="--" if name == "pointwise" else "-")
        ax.plot(months, upper, color=BANDS[name], ls="--" if name == "pointwise" else "-")
    ax.plot(months, shown["truth"], color=INK, marker="o", ms=4)
    ax.set(title=f"{shown['year']}, forecast from the ten years before", xlabel="month",
           ylabel="CO2 less the mean of those, ppm", xticks=[1, 4, 7, 10])  # fmt: skip
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.42 * (high - low))
    for y, text, color in (
        (0.95, "band for whole years", BLUE),
        (0.87, "band for single months", ORANGE),
        (0.79, "what came", INK),
        (0.71, "six passes", GREY),
    ):
        ax.text(0.02, y, text, color=color, fontweight="bold", transform=ax.transAxes, va="top")


def _held(ax: Axes, content: Content) -> None:
    """Draw the share of years that each band holds from January to December."""
    held = content["forecasts"]["held"]
    for i, method in enumerate(METHODS):
        for name, color in BANDS.items():
            values = held[method].get(f"{name}, years")
            if values is None:
                continue
            mean, error = mean_and_error(values)
            y = -i + {"pointwise": 0.22, "pathwise": 0, "stretched": -0.22}[name]
            ax.errorbar(mean, y, xerr=error, color=color, marker="o", ms=7, capsize=3)
    ax.axvline(content["settings"]["level"], color=GREY, ls="--", lw=1, ymax=0.88)
    ax.set(title="years held by bands of 95 % from January to December", xlim=(0, 1.02),
           yticks=[-i for i in range(len(METHODS))], yticklabels=METHODS)  # fmt: skip
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-len(METHODS) + 0.4, 1.0)
    for x, text, color in (
        (0.0, "for single months", ORANGE),
        (0.34, "for whole years", BLUE),
        (0.64, "stretched on earlier years", GREY),
    ):
        ax.text(x, 0.7, text, color=color, fontweight="bold", fontsize=9.5)
