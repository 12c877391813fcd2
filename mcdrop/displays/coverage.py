"""Observed against stated coverage of central intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display, scaled
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import INK, Look
from mcdrop.metrics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CoverageDisplay"]

_LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


class CoverageDisplay(Display):
    """Share of targets inside central intervals, at every stated level, with Wilson intervals.

    On the diagonal intervals hold what they state, below it they are too narrow. Intervals count
    rows: the outputs of one row may depend on each other.

    Source:
        Kuleshov, Fenner & Ermon (2018), section 3.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from mcdrop.prediction import RegressionPrediction
        >>> one = torch.ones(4)
        >>> prediction = RegressionPrediction(
        ...     mean=0 * one, epistemic_variance=0 * one, aleatoric_variance=one, mcse=0 * one,
        ...     n_samples=0, family="normal")
        >>> ax = Figure().add_subplot()
        >>> display = CoverageDisplay.from_predictions([0.0, 0.1, 1.0, 3.0], prediction, ax=ax)
        >>> display.curve.y[9]  # of the central 50 %, which reach to 0.67
        0.5
    """

    x_label: ClassVar[str] = "Stated coverage of the interval (%)"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return "Targets inside (%)"

    @classmethod
    def _wanted(cls) -> str:
        return "be a RegressionPrediction that states an uncertainty"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Observed coverage at levels from 5 to 95 %."""
        if not isinstance(judged, Regression) or not judged.has_spread:
            return None
        held = {nominal: judged.inside(nominal) for nominal in _LEVELS}
        shares = {
            q: inside.double().mean().item() for q, inside in held.items() if inside is not None
        }
        observed, n = np.array(list(shares.values())), len(judged.y)
        ends = wilson_interval(observed * n, n, level=judged.resampling.level)
        low, high = (tuple(end.tolist()) for end in ends)
        return Curve(name, tuple(shares), tuple(observed.tolist()), low, high)

    def shown(self) -> Curve:
        """Return the points as they are drawn, in percent."""
        return scaled(self.curve, x=100, y=100)

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw the diagonal, where intervals hold what they state."""
        line = ax.plot([0, 100], [0, 100], color=INK, linewidth=1, zorder=2)[0]
        ticks = range(0, 101, 20)
        ax.set(xlim=(0, 100), ylim=(-2, 102), xticks=ticks, yticks=ticks)
        return {"as stated": line}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw the line; the main method with its band."""
        shown = self.shown()
        if look.main:
            ax.fill_between(shown.x, shown.low, shown.high, color=look.color, alpha=0.18, lw=0)
        return ax.plot(
            shown.x, shown.y, color=look.color, linestyle=look.dashes, marker=look.marker,
            linewidth=2.0 if look.main else 1.4, markersize=4 if look.main else 0, zorder=3,
        )[0]  # fmt: skip
