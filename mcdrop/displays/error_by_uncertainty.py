"""Error against stated uncertainty, in groups of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve, equal_groups, rank_centers
from mcdrop.displays._display import Display, scaled
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import INK, Look
from mcdrop.metrics import rmse, sharpness, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ErrorByUncertaintyDisplay"]


class ErrorByUncertaintyDisplay(Display):
    """Error of rows sorted by their stated uncertainty, from the surest to the least sure.

    Rows are grouped by the rank of their predictive entropy or standard deviation. A rising series
    means that the uncertainty points at the rows with errors. Dashes are the error that the
    prediction states for the same rows: 1 - confidence, or the root mean predicted variance. Bars
    are Wilson intervals of error rates, and bootstrap intervals of RMSE.

    Source:
        Laves et al. (2019), for error rates; Levi et al. (2022), for RMSE.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from mcdrop.prediction import RegressionPrediction
        >>> std = torch.linspace(1, 2, 40, dtype=torch.float64)
        >>> prediction = RegressionPrediction(
        ...     mean=0 * std, epistemic_variance=0 * std, aleatoric_variance=std**2, mcse=0 * std,
        ...     n_samples=0, family="normal")
        >>> ax = Figure().add_subplot()
        >>> display = ErrorByUncertaintyDisplay.from_predictions(std, prediction, ax=ax)
        >>> [round(y, 3) for y in display.curve.y]  # as large as stated
        [1.252, 1.763]
    """

    x_label: ClassVar[str] = "Rows, from surest to least sure (%)"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return "Error rate (%)" if self.curve.unit == "share" else "RMSE (units of y)"

    @classmethod
    def _wanted(cls) -> str:
        return "state an uncertainty"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Observed and stated error of each group."""
        if isinstance(judged, Classification):
            return _error_rates(name, judged)
        return _rmse(name, judged) if judged.has_spread else None

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw what the first prediction states for the error of each group."""
        shown = self.shown()
        width = 60 / len(shown.x)
        left, right = ([x + side * width for x in shown.x] for side in (-0.5, 0.5))
        lines = ax.hlines(shown.stated, left, right, color=INK, linewidth=2.2, zorder=2.6)
        ax.set(xlim=(0, 100))
        return {"as stated": lines}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw the series; the main method with intervals."""
        shown = self.shown()
        face = look.color if look.main else "white"
        if look.main:
            ax.vlines(shown.x, shown.low, shown.high, color=look.color, linewidth=1.6, zorder=3)
        return ax.plot(
            shown.x, shown.y, color=look.color, linestyle=look.dashes, marker=look.marker,
            linewidth=1.8 if look.main else 1.2, markersize=7 if look.main else 5,
            markerfacecolor=face, zorder=4 if look.main else 3.5,
        )[0]  # fmt: skip

    def finish(self, ax: Axes) -> None:
        """Label the axes, the vertical one from 0."""
        super().finish(ax)
        ax.set_ylim(bottom=0)

    def shown(self) -> Curve:
        """Return the points as they are drawn: shares in percent, others in units of y."""
        return scaled(self.curve, x=100, y=100 if self.curve.unit == "share" else 1)


def _error_rates(name: str, c: Classification) -> Curve:
    """Return the error rate against the rank of the predictive entropy."""
    wrong, stated, groups = c.wrong.numpy(), 1 - c.confidence, equal_groups(c.uncertainty)
    count = np.array([len(group) for group in groups], dtype=np.float64)
    errors = np.array([wrong[group].sum() for group in groups])
    low, high = wilson_interval(errors, count, level=c.resampling.level)
    return Curve(
        name,
        x=rank_centers(groups),
        y=tuple((errors / count).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        count=tuple(len(group) for group in groups),
        stated=tuple(float(stated[group].mean()) for group in groups),
    )


def _rmse(name: str, r: Regression) -> Curve:
    """Return the RMSE against the rank of the stated standard deviation, outputs pooled."""
    std, mean, y = (values.reshape(-1) for values in (r.prediction.std, r.prediction.mean, r.y))
    groups = equal_groups(std.numpy())
    observed = [r.resampling.bootstrap(rmse, mean[g], y[g]) for g in groups]
    return Curve(
        name,
        x=rank_centers(groups),
        y=tuple(e.value for e in observed),
        low=tuple(e.low for e in observed),
        high=tuple(e.high for e in observed),
        count=tuple(len(g) for g in groups),
        stated=tuple(sharpness(std[g]) for g in groups),
        unit="units of y",
    )
