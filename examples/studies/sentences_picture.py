"""The picture of the sentences: four of them, the referral curve, and texts of other kinds."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from studies.study import BLUE, GREEN, GREY, INK, ORANGE, Content, label, mean_and_error

__all__ = ["draw"]

TITLE = "Passes mend the confidence of a network on text; logistic regression is better still"
COLORS = {
    "dropout off": ORANGE,
    "MC dropout": BLUE,
    "deep ensemble": GREEN,
    "logistic regression": GREY,
}
OTHERS = ("Python's reference", "licenses")


def draw(content: Content) -> Figure:
    """Four sentences with their probabilities, the referral curve, log-likelihood, other texts."""
    figure = Figure(figsize=(11, 7))
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=13.5, fontweight="bold")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.1))[:, 0]
    axes = top.subplots(1, 4, sharey=True)
    fields = list(content["settings"]["fields"])
    texts = ("of the test, the surest", "of the test, the least sure", "Python's reference",
             "a license")  # fmt: skip
    for ax, shown, text in zip(axes, content["shown"], texts, strict=True):
        _sentence(ax, shown, text)
    axes[0].set_yticks(range(len(fields)), fields)
    axes[0].invert_yaxis()
    left, middle, right = bottom.subplots(1, 3, width_ratios=(1.1, 1, 1))
    _referral(left, content)
    _likelihood(middle, content)
    _others(right, content)
    return figure


def _sentence(ax: Axes, shown: dict[str, Any], text: str) -> None:
    """Draw the probabilities of one sentence; the field it is from is dark."""
    colors = [INK if i == shown["field"] else BLUE for i in range(len(shown["probs"]))]
    ax.barh(range(len(colors)), shown["probs"], color=colors, height=0.7)
    ax.set_title(text, color=GREY, fontsize=10)
    ax.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="\n".join(textwrap.wrap(shown["text"], 27)))
    ax.xaxis.label.set_fontstyle("italic")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _referral(ax: Axes, content: Content) -> None:
    """Draw the share of errors among the sentences kept by the share referred."""
    for i, (method, color) in enumerate(COLORS.items()):
        found = content["scores"][method]
        curve = {float(k.split()[1]): v for k, v in found.items() if k.startswith("referring")}
        values = np.array([mean_and_error(v) for v in curve.values()])
        ax.errorbar(list(curve), values[:, 0], values[:, 1], color=color, capsize=2)
        label(ax, 0.62, 0.43 - 0.04 * i, method, color)
    ax.set(title="errors among the sentences kept", xlabel="share referred", ylim=(0, 0.46))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _likelihood(ax: Axes, content: Content) -> None:
    """Draw the log-likelihood of each method."""
    methods = ["no dropout", *COLORS]
    for i, method in enumerate(methods):
        seeds, color = content["scores"][method]["NLL"], COLORS.get(method, INK)
        mean, error = mean_and_error(seeds)
        ax.scatter(seeds, [-i] * len(seeds), color=color, s=12, alpha=0.3, lw=0)
        ax.errorbar(mean, -i, xerr=error, color=color, marker="o", ms=7, capsize=3)
    ax.set(title="negative log-likelihood", yticks=[-i for i in range(len(methods))],
           yticklabels=methods)  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _others(ax: Axes, content: Content) -> None:
    """Draw how often a text of another kind is the less certain one of a pair."""
    for i, kind in enumerate(OTHERS):
        for j, (method, color) in enumerate(COLORS.items()):
            y = -i + 0.25 - 0.17 * j
            for score, marker in ((f"{kind}, entropy", "o"), (f"{kind}, mutual information", "x")):
                if score in content["scores"][method]:
                    mean, error = mean_and_error(content["scores"][method][score])
                    ax.errorbar(mean, y, xerr=error, color=color, marker=marker, ms=6, capsize=2)
    ax.axvline(0.5, color=GREY, ls="--", lw=1)
    ax.set(title="AUROC of other texts (dots: by\nentropy, crosses: by mutual\ninformation)",
           yticks=[0, -1], yticklabels=["Python's\nreference", "licenses"])  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-1.5, 0.5)
