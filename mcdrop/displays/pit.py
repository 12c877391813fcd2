"""Histogram of the probability integral transform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display, scaled
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import INK, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PITDisplay"]

_BINS, _ROWS = 10, 100


class PITDisplay(Display):
    """Where in its predicted distribution each target fell: flat if the distributions are right.

    The PIT of a target y is F(y), F its predicted distribution function. A U shape means that the
    distributions are too narrow, a hump too wide, a slope that they are shifted. The bracket on
    the right is the range of one bar if calibrated: binomial, counting rows. Among passes without
    observation noise the PIT is the randomized rank.

    Source:
        Dawid (1984); Gneiting, Balabdaoui & Raftery (2007), section 3.1.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from mcdrop.prediction import RegressionPrediction
        >>> one = torch.ones(4)
        >>> prediction = RegressionPrediction(
        ...     mean=0 * one, epistemic_variance=0 * one, aleatoric_variance=one, mcse=0 * one,
        ...     n_samples=0, family="normal")
        >>> ax = Figure().add_subplot()
        >>> PITDisplay.from_predictions([-3.0, -2.0, 2.0, 3.0], prediction, ax=ax).curve.y
        (0.5, 0.0, 0.0, 0.0, 0.5)
    """

    x_label: ClassVar[str] = "Place of the target in its distribution"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return "Share of targets (%)"

    @classmethod
    def _wanted(cls) -> str:
        return "be a RegressionPrediction with a density or with samples"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Share of targets by PIT, with the range of a share if calibrated."""
        if not isinstance(judged, Regression) or not judged.has_spread:
            return None
        pit_values = judged.pit_or_rank
        if pit_values is None:
            return None
        from scipy.stats import binom

        n_rows, values = len(pit_values), np.asarray(pit_values).reshape(-1)
        n_bins = _BINS if len(values) >= _ROWS else _BINS // 2
        count, edges = np.histogram(values, bins=n_bins, range=(0.0, 1.0))
        # Outputs of one row are not independent: the range counts rows only.
        ends = binom.interval(judged.resampling.level, n_rows, 1 / n_bins)
        low, high = (float(end) / n_rows for end in ends)
        return Curve(
            name,
            x=tuple((0.5 * (edges[1:] + edges[:-1])).tolist()),
            y=tuple((count / count.sum()).tolist()),
            count=tuple(count.tolist()),
            calibrated_low=(low,) * n_bins,
            calibrated_high=(high,) * n_bins,
        )

    def shown(self) -> Curve:
        """Return the points as they are drawn, in percent."""
        return scaled(self.curve, y=100)

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw the height of flat bars and, on the right, the range of a bar if calibrated."""
        shown = self.shown()
        low, high, right = shown.calibrated_low[0], shown.calibrated_high[0], 1.035
        style: dict[str, Any] = {"color": INK, "zorder": 5.0}
        ax.axhline(100 / len(shown.x), linewidth=1, linestyle=(0, (4, 3)), **style)
        bracket = ax.plot(
            [1.01, right, right, 1.01], [low, low, high, high], linewidth=2, clip_on=False, **style
        )[0]
        ax.set(xlim=(0, 1.05), ylim=(0, 1.1 * max(*shown.y, high)), xticks=np.linspace(0, 1, 6))
        ax.grid(visible=False, axis="x")
        return {"range if calibrated": bracket}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw bars for the main method and an outline for others."""
        shares = 100 * np.asarray(self.curve.y)
        if look.main:
            return ax.bar(self.curve.x, shares, 0.92 / len(shares), color=look.color, alpha=0.8)
        ax.set_ylim(0, max(ax.get_ylim()[1], 1.1 * shares.max()))
        edges = np.linspace(0, 1, len(shares) + 1)
        return ax.stairs(
            shares, edges, baseline=None, color=look.color, linestyle=look.dashes, linewidth=1.6
        )
