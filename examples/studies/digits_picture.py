"""The picture of the digits: what was shown, how predictions fare, what is referred, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from studies.corruptions import conditions
from studies.study import BLUE, GREEN, GREY, ORANGE, Content, digits, label

__all__ = ["draw"]

COLORS = {
    "dropout off": ("batch repetition, off", ORANGE),
    "MC dropout": ("batch repetition, MC", BLUE),
    "deep ensemble": ("deep ensemble", GREEN),
}
# A four, which is still one when it is turned or moved.
DIGIT = 7
TITLE = "Passes nearly halve the loss on corrupted digits, an ensemble is better at referring"
KINDS = {"rotated": "rotated by 15° to 75°", "shifted": "shifted by 0.5 to 2.5 pixels",
         "noisy": "noise of std 0.15 to 0.75"}  # fmt: skip


def draw(content: Content) -> Figure:
    """Log-likelihood by corruption and strength, the referral curve and the ablation."""
    scores = content["scores"]
    figure = Figure(figsize=(11, 7))
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=13.5, fontweight="bold")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.1))[:, 0]
    axes = top.subplots(1, 3, sharey=True)
    shown = conditions(digits(1797)[0][DIGIT : DIGIT + 1], 0)
    for ax, (kind, text) in zip(axes, KINDS.items(), strict=True):
        names = ["clean", *(f"{kind} {k}" for k in range(1, 6))]
        for method, color in COLORS.values():
            _line(ax, range(6), [scores[method]["NLL"][name] for name in names], color)
        ax.set(title=text, xlabel="strength", xticks=range(6), xlim=(-0.5, 5.5))
        ax.set(yscale="log", ylim=(0.02, 100))
        ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
        ax.minorticks_off()
        for k, name in enumerate(names):
            small = ax.inset_axes((k / 6 + 0.01, 0.8, 0.15, 0.2))
            small.imshow(shown[name][0, 0].numpy(), cmap="gray_r")
            small.set_axis_off()
    axes[0].set_ylabel("negative log-likelihood")
    for i, (name, (_, color)) in enumerate(COLORS.items()):
        axes[0].text(0.57, 0.32 - 0.09 * i, name, color=color, fontweight="bold",
                     transform=axes[0].transAxes, va="top")  # fmt: skip
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.25))
    _referral(left, content)
    _ablation(right, content)
    return figure


def _line(ax: Axes, x: Sequence[float], seeds: Sequence[Sequence[float]], color: str) -> None:
    """Draw means over seeds with their standard errors."""
    values = np.array(seeds)
    error = values.std(axis=1, ddof=1) / values.shape[1] ** 0.5 if values.shape[1] > 1 else None
    ax.errorbar(x, values.mean(axis=1), error, color=color, marker="o", ms=4, capsize=2)


def _referral(ax: Axes, content: Content) -> None:
    """Draw the share of errors among the images kept by the share referred."""
    for method, color in COLORS.values():
        curve = content["scores"][method]["referral"]
        _line(ax, [float(share) for share in curve], list(curve.values()), color)
    shares = np.linspace(0, 0.95, 100)
    ax.plot(shares, np.clip((0.5 - shares) / (1 - shares), 0, 1), color=GREY, lw=1, ls="--")
    label(ax, 0.03, 0.2, "the best\nthere is", GREY, fontsize=9)
    ax.set(title="errors among the images kept, where\nhalf are digits 5-9, never learned",
           xlabel="share referred", ylim=(-0.02, 0.55))  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))


def _ablation(ax: Axes, content: Content) -> None:
    """Draw the mean over all corruptions for every recipe, MC dropout beside dropout off."""
    scores = content["scores"]
    names = ["no dropout", *content["settings"]["recipes"], "deep ensemble"]
    for i, name in enumerate(names):
        alone = name in scores
        for method, color in [(name, GREEN if name == "deep ensemble" else GREY)] if alone else [
            (f"{name}, off", ORANGE), (f"{name}, MC", BLUE)
        ]:  # fmt: skip
            bad = [v for k, v in scores[method]["NLL"].items() if k != "clean"]
            seeds = np.mean(bad, axis=0)
            ax.scatter(seeds, [-i] * len(seeds), color=color, s=12, alpha=0.25, lw=0)
            error = seeds.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else 0
            ax.errorbar(seeds.mean(), -i, xerr=error, color=color, marker="o", ms=7, capsize=3)
    ax.set(title="negative log-likelihood, mean over all corruptions",
           yticks=[-i for i in range(len(names))], yticklabels=names)  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color="#eeeeee")
