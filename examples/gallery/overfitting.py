"""An over-fitted network beside a dropped-out one: 20 noisy points, 300 hidden units.

Both networks have two hidden layers of 300 units and train on the same 20 points for the same
number of steps. Without dropout the training loss falls below the noise, and the test loss rises;
with half of the units dropped both losses stay near the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gallery import BLUE, GREY, INK, LIGHT, ORANGE, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop

NOISE = 0.3
P = 0.5


@dataclass(frozen=True)
class Result:
    """Losses by step, and both curves over a grid."""

    x: Tensor
    y: Tensor
    grid: Tensor
    curves: dict[str, Tensor]
    losses: dict[str, dict[str, list[float]]]
    steps: list[int]
    band: tuple[Tensor, Tensor]

    def last(self, net: str, rows: str) -> float:
        """Return the loss after the last step."""
        return self.losses[net][rows][-1]

    @property
    def lines(self) -> list[str]:
        """The losses after training."""
        return [
            f"{rows} loss: {self.last('plain', rows):.3f} without dropout, "
            f"{self.last('dropout', rows):.3f} with, variance of the noise {NOISE**2:.3f}"
            for rows in ("training", "test")
        ]


def measure(small: bool = False) -> Result:
    """Train both networks and follow their losses."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 20).unsqueeze(1)
    y = x + NOISE * torch.randn(20, 1)
    x_test = 2 * torch.rand(2000, 1) - 1
    y_test = x_test + NOISE * torch.randn(2000, 1)
    grid = torch.linspace(-1.1, 1.1, 200).unsqueeze(1)
    steps: list[int] = []
    losses: dict[str, dict[str, list[float]]] = {}
    curves: dict[str, Tensor] = {}
    nets = {}
    mse = nn.MSELoss()
    for name, p in (("plain", 0.0), ("dropout", P)):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(1, 300), nn.ReLU(), nn.Dropout(p), nn.Linear(300, 300), nn.ReLU(),
            nn.Dropout(p), nn.Linear(300, 1),
        )  # fmt: skip
        followed: dict[str, list[float]] = {"training": [], "test": []}
        steps.clear()

        def watch(step: int, net: Any = net, followed: Any = followed) -> None:
            if (step + 1) % 10:
                return
            steps.append(step + 1)
            with torch.no_grad():
                followed["training"].append(mse(net.eval()(x), y).item())
                followed["test"].append(mse(net(x_test), y_test).item())

        nets[name] = train(net, mse, x, y, steps=200 if small else 500, rate=0.005, watch=watch)
        losses[name] = followed
        with torch.no_grad():
            curves[name] = nets[name](grid)
    passes = mcdrop.wrap(nets["dropout"]).predict_with_uncertainty(
        grid, task="regression", n_samples=200, keep_samples=True, seed=0
    )
    return Result(x, y, grid, curves, losses, steps, passes.interval(0.9))


def draw(found: Result) -> Figure:
    """Curves with the band of the passes, and both losses."""
    figure, (left, right) = panels(
        "Without dropout 300 units learn the noise; with it, the line", 2
    )
    grid = found.grid[:, 0]
    low, high = (end[:, 0] for end in found.band)
    left.fill_between(grid, low, high, color=BLUE, alpha=0.15, lw=0)
    left.plot(grid, found.grid[:, 0], color=GREY, lw=1, ls="--")
    left.plot(grid, found.curves["plain"][:, 0], color=ORANGE)
    left.plot(grid, found.curves["dropout"][:, 0], color=BLUE)
    left.scatter(found.x, found.y, color=INK, s=18, zorder=3)
    left.set(xlabel="x", ylabel="y", ylim=(-1.9, 1.9))
    label(left, -1.05, 1.6, "without dropout", ORANGE)
    label(left, -1.05, 1.3, "with dropout, 90 % of its passes", BLUE)
    label(left, -1.05, 1.0, "truth", GREY)
    for name, color in (("plain", ORANGE), ("dropout", BLUE)):
        for rows, dashes in (("test", "-"), ("training", ":")):
            right.plot(found.steps, found.losses[name][rows], color=color, ls=dashes)
            text = f" {rows}"
            label(right, found.steps[-1], found.last(name, rows), text, color, clip_on=False)
    right.axhline(NOISE**2, color=LIGHT, zorder=0)
    edge = found.steps[-1] * 1.18
    label(right, edge, NOISE**2 * 0.95, "variance of the noise", GREY, va="top", ha="right")
    right.set(yscale="log", ylim=(0.01, 0.3), xlabel="training step", title="mean squared error")
    right.set_yticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
    right.minorticks_off()
    right.set_xlim(0, edge)
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
