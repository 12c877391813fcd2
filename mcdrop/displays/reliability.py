"""Reliability diagram: accuracy against confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve, Float64, equal_groups
from mcdrop.displays._display import Display, scaled
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import GREY, INK, Look, span_of
from mcdrop.metrics import wilson_interval
from mcdrop.metrics.calibration_tests import outcomes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ReliabilityDisplay"]

_OUTCOMES = 999


class ReliabilityDisplay(Display):
    """Accuracy against confidence in the predicted class, in groups of equally many rows.

    Bars are Wilson intervals, the grey range behind a point holds it with probability `level` if
    the prediction is calibrated: outcomes are drawn from the stated probabilities and counted in
    the same groups (consistency band). A point outside its range is evidence against calibration, a
    point off the diagonal alone is not. Points are not joined: what lies between them is not known.

    Source:
        Broecker & Smith (2007), Increasing the reliability of reliability diagrams.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from mcdrop.prediction import ClassificationPrediction
        >>> p = torch.linspace(0.5, 1, 100, dtype=torch.float64)
        >>> zero = torch.zeros(100, 2)
        >>> prediction = ClassificationPrediction(
        ...     probs=torch.stack([p, 1 - p], dim=1), probs_std=zero, mcse=zero, n_samples=0,
        ...     expected_entropy=zero[:, 0], variation_ratio=zero[:, 0])
        >>> ax = Figure().add_subplot()
        >>> display = ReliabilityDisplay.from_predictions([0, 0, 0, 1] * 25, prediction, ax=ax)
        >>> display.curve.count, display.curve.y[0]
        ((20, 20, 20, 20, 20), 0.75)
    """

    x_label: ClassVar[str] = "Confidence in the predicted class (%)"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return "Share that is right (%)"

    @classmethod
    def _wanted(cls) -> str:
        return "be a ClassificationPrediction"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Accuracy and consistency band of each group."""
        if not isinstance(judged, Classification):
            return None
        stated, right = judged.confidence, 1 - judged.wrong.numpy()
        groups = equal_groups(stated)
        count = np.array([len(group) for group in groups], dtype=np.float64)
        hits = np.array([right[group].sum() for group in groups])
        draws = judged.resampling
        low, high = wilson_interval(hits, count, level=draws.level)
        member = np.zeros((len(stated), len(groups)))
        for k, group in enumerate(groups):
            member[group, k] = 1 / len(group)
        band = _band(stated, member, draws.level, draws.seed)
        return Curve(
            name,
            x=tuple(float(stated[group].mean()) for group in groups),
            y=tuple((hits / count).tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            count=tuple(len(group) for group in groups),
            calibrated_low=tuple(band[0].tolist()),
            calibrated_high=tuple(band[1].tolist()),
        )

    def shown(self) -> Curve:
        """Return the points as they are drawn, in percent."""
        return scaled(self.curve, x=100, y=100)

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw the diagonal, where probabilities are right, and the range of each group."""
        shown = self.shown()
        start = _start(shown)
        line = ax.plot([0, 100], [0, 100], color=INK, linewidth=1, zorder=2)[0]
        bottoms = np.array(shown.calibrated_low)
        heights = np.array(shown.calibrated_high) - bottoms
        band = ax.bar(
            shown.x, heights, 0.022 * (100 - start), bottom=bottoms, color=GREY, alpha=0.22,
            linewidth=0, zorder=1.8,
        )  # fmt: skip
        ax.set(xlim=(start, 100 + 0.02 * (100 - start)))
        return {"as stated": line, "range if calibrated": band}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw one point per group; the main method with intervals."""
        shown = self.shown()
        face = look.color if look.main else "white"
        if look.main:
            ax.vlines(shown.x, shown.low, shown.high, color=look.color, linewidth=1.6, zorder=3)
        ax.set_xlim(left=min(ax.get_xlim()[0], _start(shown)))
        return ax.plot(
            shown.x, shown.y, linestyle="none", marker=look.marker,
            markersize=7 if look.main else 5, markerfacecolor=face,
            markeredgecolor=look.color, color=look.color,
            zorder=4 if look.main else 3.5, clip_on=False,
        )[0]  # fmt: skip

    def finish(self, ax: Axes) -> None:
        """Label the axes and say how many rows a group has."""
        super().finish(ax)
        lowest = 100 * min(*self.curve.low, *self.curve.calibrated_low, *self.curve.y)
        ax.set_ylim(max(-2.0, lowest - 8), 102)
        if not getattr(ax, "_mcdrop_counted", False):
            ax._mcdrop_counted = True  # type: ignore[attr-defined]
            ax.text(
                0.99, 0.03, groups_text(self.curve), transform=ax.transAxes, ha="right", color=GREY
            )


def _start(shown: Curve) -> float:
    """Return the left end of an axis that holds the points, in percent."""
    return max(0.0, span_of([*shown.x, 100.0])[0])


def groups_text(curve: Curve) -> str:
    """Return how many groups there are and of how many rows."""
    least, most, groups = min(curve.count), max(curve.count), len(curve.count)
    rows = f"{most}" if least == most else f"{least} to {most}"
    return f"one group of {rows} rows" if groups == 1 else f"{groups} groups of {rows} rows"


def _band(stated: Float64, member: Float64, level: float, seed: int) -> Float64:
    """Quantiles of the share that is right in each group, if drawn as stated; (2, B)."""
    drawn = np.concatenate([events @ member for events in outcomes(stated, _OUTCOMES, seed)])
    ends: Float64 = np.quantile(
        drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, method="inverted_cdf"
    )
    return ends
