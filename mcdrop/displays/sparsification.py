"""Error of the rows kept when the least sure ones are referred to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display, scaled
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import GREY, INK, Look
from mcdrop.metrics import risk_coverage_curve, rmse, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SparsificationDisplay"]

# Shares referred: 0, 1, ..., 50 %. Beyond, few rows are left and nobody refers as many.
_SHARES = np.linspace(0.0, 0.5, 51)
_MARKED = 0.1


class SparsificationDisplay(Display):
    """Error rate or RMSE of the rows kept, against the share of rows that are referred.

    The least sure rows, by predictive entropy or standard deviation, are referred to a person
    first, rows of equal uncertainty together. The faster the curve falls, the better the
    uncertainty ranks the rows; the dashed line is what referring random rows would leave. Bands are
    Wilson intervals of error rates, and intervals of RMSE adjusted for skew.

    Source:
        Ilg et al. (2018), sparsification plots; El-Yaniv & Wiener (2010), selective prediction.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from mcdrop.prediction import RegressionPrediction
        >>> std = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
        >>> prediction = RegressionPrediction(
        ...     mean=0 * std, epistemic_variance=0 * std, aleatoric_variance=std**2, mcse=0 * std,
        ...     n_samples=0, family="normal")
        >>> ax = Figure().add_subplot()
        >>> y = [1.0, 1.0, 1.0, 5.0]
        >>> display = SparsificationDisplay.from_predictions(y, prediction, ax=ax)
        >>> display.curve.x, [round(y, 3) for y in display.curve.y]  # sqrt(28 / 4), then 1
        ((0.0, 0.25, 0.5), [2.646, 1.0, 1.0])
    """

    x_label: ClassVar[str] = "Rows referred, least sure first (%)"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return (
            "Error rate of the rest (%)"
            if self.curve.unit == "share"
            else "RMSE of the rest (units of y)"
        )

    @classmethod
    def _wanted(cls) -> str:
        return "state an uncertainty"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Error of the rows kept at up to 51 shares referred."""
        if isinstance(judged, Classification):
            return _error_rates(name, judged)
        return _rmse(name, judged) if judged.has_spread else None

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw what referring random rows leaves, and mark 10 %."""
        shown = self.shown()
        line = ax.axhline(shown.y[0], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        ax.axvline(100 * _MARKED, color=GREY, linewidth=1, zorder=1.9)
        end = 100 * shown_end(self.curve)
        inside = [high for x, high in zip(shown.x, shown.high, strict=True) if x <= end]
        ticks = range(0, round(end) + 1, 5 if end <= 30 else 10)
        ax.set(xlim=(0, end), xticks=ticks, ylim=(0, 1.05 * max([*inside, *shown.y]) or 1.0))
        return {"random rows": line}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw the curve; the main method with its band and its value at 10 %."""
        shown = self.shown()
        if len(shown.x) == 1:  # all rows are equally uncertain: no row comes first
            return ax.axhline(shown.y[0], color=look.color, linestyle=look.dashes)
        if look.main:
            ax.fill_between(shown.x, shown.low, shown.high, color=look.color, alpha=0.18, lw=0)
            place = int(np.argmin(np.abs(np.array(self.curve.x) - _MARKED)))
            ax.plot(shown.x[place], shown.y[place], marker="o", markersize=7, color=look.color)
        width = 2.0 if look.main else 1.4
        return ax.plot(
            shown.x, shown.y, color=look.color, linestyle=look.dashes, linewidth=width, zorder=3
        )[0]

    def shown(self) -> Curve:
        """Return the points as they are drawn: shares in percent, others in units of y."""
        return scaled(self.curve, x=100, y=100 if self.curve.unit == "share" else 1)


def shown_end(curve: Curve) -> float:
    """Return the share referred up to which the curve is shown: 20, 30 or 50 %.

    The smallest by which nine tenths of what the curve loses in all are lost.
    """
    y, x = np.array(curve.y), np.array(curve.x)
    lost = y[0] - y
    if lost.max() <= 0:
        return 0.3
    reached = float(x[int(np.argmax(lost >= 0.9 * lost.max()))])
    return next((end for end in (0.2, 0.3) if reached <= end), 0.5)


def _error_rates(name: str, c: Classification) -> Curve:
    """Return the error rate of the rows kept."""
    curve = risk_coverage_curve(c.uncertainty, loss=c.wrong)
    index = _indices(curve.coverage)
    risks, kept = curve.risk[index], np.rint(curve.coverage[index] * len(c.y))
    low, high = wilson_interval(risks * kept, kept, level=c.resampling.level)
    return Curve(
        name,
        x=tuple((1 - curve.coverage[index]).tolist()),
        y=tuple(risks.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        count=tuple(int(rows) for rows in kept),
    )


def _rmse(name: str, r: Regression) -> Curve:
    """Return the RMSE of the rows kept."""
    score = r.uncertainty
    # Rows whose standard deviations differ by rounding alone are equally uncertain.
    if np.ptp(score) <= 1e-6 * score.max():
        score = np.zeros_like(score)
    curve = risk_coverage_curve(score, loss=r.row_errors**2)
    index = _indices(curve.coverage)
    order = np.argsort(score, kind="stable")
    kept = [int(rows) for rows in np.rint(curve.coverage[index] * len(score))]
    found = [
        r.resampling.bootstrap(rmse, r.prediction.mean[order[:k]], r.y[order[:k]])
        for k in kept
        if k > 1
    ]
    return Curve(
        name,
        x=tuple((1 - curve.coverage[index]).tolist())[: len(found)],
        y=tuple(e.value for e in found),
        low=tuple(e.low for e in found),
        high=tuple(e.high for e in found),
        count=tuple(kept[: len(found)]),
        unit="units of y",
    )


def _indices(coverage: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the places of the shares that are shown, the largest coverage first."""
    found = np.unique(np.searchsorted(coverage, 1 - _SHARES - 1e-9))[::-1]
    return found[found < len(coverage)]
