"""Where it fails: outside the data the spread grows no faster than the prediction, or not at all.

Networks of two hidden layers with dropout, trained on a sine between -2 and 2, and asked up to 6.
With tanh units every unit saturates, and the spread becomes constant. With ReLU units each pass is
a straight line out there, and the spread grows with it, however wrong the line is. The Gaussian
process goes back to its prior, and its intervals hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREEN, GREY, INK, ORANGE, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop
from mcdrop import RegressionPrediction
from mcdrop.baselines import GaussianProcess

NOISE, P, EDGE, END = 0.1, 0.1, 2.0, 6.0


def truth(x: Tensor) -> Tensor:
    """The function behind the data."""
    return torch.sin(2 * x)


@dataclass(frozen=True)
class Result:
    """Predictions over a grid by method."""

    x: Tensor
    y: Tensor
    grid: Tensor
    found: dict[str, RegressionPrediction]

    def coverage(self, method: str, outside: bool) -> float:
        """Return how much of the truth lies within 2 std, inside or outside the data."""
        p = self.found[method]
        held = (truth(self.grid) - p.mean).abs() <= 2 * p.epistemic_std
        return held[(self.grid.abs() > EDGE) == outside].double().mean().item()

    def growth(self, method: str) -> float:
        """Return the std at the end of the grid over that half-way."""
        std = self.found[method].epistemic_std
        half_way = int((self.grid - (EDGE + END) / 2).abs().argmin())
        return (std[-1] / std[half_way]).item()

    @property
    def lines(self) -> list[str]:
        """Shares of the truth within 2 std."""
        return [
            f"{name}: {100 * self.coverage(name, False):.0f} % of the truth within 2 std among the "
            f"data, {100 * self.coverage(name, True):.0f} % outside; std at {END:g} is "
            f"{self.growth(name):.1f} times that at {(EDGE + END) / 2:g}"
            for name in self.found
        ]


def measure(small: bool = False) -> Result:
    """Train both networks and fit the process."""
    torch.manual_seed(0)
    x = EDGE * (2 * torch.rand(100) - 1)
    y = truth(x) + NOISE * torch.randn(100)
    grid = torch.linspace(-END, END, 601)
    found = {}
    for name, unit in (("tanh units", nn.Tanh), ("ReLU units", nn.ReLU)):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(1, 100), unit(), nn.Dropout(P), nn.Linear(100, 100), unit(), nn.Dropout(P),
            nn.Linear(100, 1),
        )  # fmt: skip
        steps = 300 if small else 2500
        train(net, nn.MSELoss(), x[:, None], y[:, None], steps=steps, rate=5e-3)
        p = mcdrop.predict_with_uncertainty(
            net, grid[:, None], task="regression", n_samples=400, seed=0
        )
        mean, std = p.mean[:, 0], p.std[:, 0]
        found[name] = RegressionPrediction.from_mean_std(mean, std, epistemic_std=std)
    found["Gaussian process"] = GaussianProcess().fit(x[:, None], y).predict(grid[:, None])
    return Result(x, y, grid, found)


def draw(found: Result) -> Figure:
    """Mean and band by method, far beyond the data."""
    title = "Outside the data MC dropout is wrong and sure; a Gaussian process knows"
    figure, axes = panels(title, 3, size=(9, 3.7))
    for ax, (name, p), color in zip(axes, found.found.items(), (ORANGE, GREEN, BLUE), strict=True):
        mean, std = p.mean, p.epistemic_std
        ax.fill_between(found.grid, mean - 2 * std, mean + 2 * std, color=color, alpha=0.2, lw=0)
        ax.plot(found.grid, mean, color=color)
        ax.plot(found.grid, truth(found.grid), color=GREY, lw=1, ls="--")
        ax.scatter(found.x, found.y, color=INK, s=4, zorder=3)
        kind = name if name == "Gaussian process" else f"dropout, {name}"
        ax.set_title(kind, color=color, fontweight="bold")
        ax.set(xlabel="x", ylim=(-6, 6), xlim=(-END, END))
        text = f"{100 * found.coverage(name, True):.0f} % of the truth\nin the band outside"
        label(ax, 0, -5, text, color, ha="center")
    for ax in axes[1:]:
        ax.set_yticklabels([])
    label(axes[0], 0, 2.2, "truth: dashed\ndata: dots", GREY, ha="center")
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
