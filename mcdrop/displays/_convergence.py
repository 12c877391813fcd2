"""The score after the first passes, for the report: whether more of them would change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mcdrop.displays._classification import Classification
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display
from mcdrop.displays._regression import Regression
from mcdrop.displays._style import INK, Look
from mcdrop.metrics import brier_score, rmse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ConvergenceDisplay"]


class ConvergenceDisplay(Display):
    """RMSE or Brier score of the mean over the first 2, 4, 8, ... passes.

    The band is the interval over rows of the score with all passes: a change much smaller than it
    is of no consequence.
    """

    x_label: ClassVar[str] = "Passes"

    @property
    def y_label(self) -> str:
        """Label of the vertical axis."""
        return "Brier score" if self.curve.unit == "score" else "RMSE (units of y)"

    @classmethod
    def _wanted(cls) -> str:
        return "hold its samples"

    @classmethod
    def points(cls, name: str, judged: Classification | Regression) -> Curve | None:
        """Score after 2, 4, 8, ... and all passes."""
        samples = judged.prediction.samples
        if samples is None or len(samples) < 4:
            return None
        numbers = [2**k for k in range(1, len(samples).bit_length()) if 2**k < len(samples)]
        numbers.append(len(samples))
        found = []
        for mean in _running_means(samples, numbers):
            if isinstance(judged, Classification):
                found.append(judged.resampling.bootstrap(brier_score, mean, judged.y))
            else:
                found.append(judged.resampling.bootstrap(rmse, mean, judged.y))
        last, n = found[-1], len(found)
        return Curve(
            name,
            x=tuple(float(s) for s in numbers),
            y=tuple(e.value for e in found),
            low=(last.low,) * n,
            high=(last.high,) * n,
            unit="score" if isinstance(judged, Classification) else "units of y",
        )

    def draw_reference(self, ax: Axes) -> dict[str, Any]:
        """Draw the score with all passes."""
        line = ax.axhline(self.curve.y[-1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        ax.set_xscale("log", base=2)
        ax.set_xticks(self.curve.x, [f"{x:.0f}" for x in self.curve.x])
        ax.minorticks_off()
        return {"all passes": line}

    def draw(self, ax: Axes, look: Look) -> Any:
        """Draw the series; the main method with its band."""
        c = self.curve
        if look.main:
            ax.fill_between(c.x, c.low, c.high, color=look.color, alpha=0.18, lw=0)
        return ax.plot(
            c.x, c.y, color=look.color, linestyle=look.dashes, marker=look.marker, linewidth=1.8
        )[0]


def _running_means(samples: Tensor, numbers: list[int]) -> list[Tensor]:
    """Return the mean over the first passes, (N, ...), for several increasing numbers of them."""
    total = torch.zeros(samples.shape[1:], dtype=torch.float64, device="cpu")
    means, start = [], 0
    for end in numbers:
        total = total + samples[start:end].double().cpu().sum(dim=0)
        means.append(total / end)
        start = end
    return means
