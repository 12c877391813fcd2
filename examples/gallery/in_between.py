"""Where it fails: no uncertainty in between two clusters, beside a Gaussian process.

With dropout on one hidden layer of ReLU units, f(x) = sum_i w_i z_i relu(a_i x + c_i) + b, and the
variance over masks is p / (1 - p) sum_i (w_i relu(a_i x + c_i))^2: a sum of convex functions. In a
gap it never exceeds the larger of its values at the two edges, whatever the weights (Foong et al.
2019). A Gaussian process has no such limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREY, INK, ORANGE, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop
from mcdrop import RegressionPrediction
from mcdrop.baselines import GaussianProcess

CLUSTERS = ((-1.0, -0.7), (0.5, 1.0))
NOISE, P = 0.1, 0.1


def truth(x: Tensor) -> Tensor:
    """The function behind the data, as in the paper."""
    return torch.cos(4 * x + 0.8)


@dataclass(frozen=True)
class Result:
    """Predictions of the function over a grid by both methods."""

    x: Tensor
    y: Tensor
    grid: Tensor
    found: dict[str, RegressionPrediction]

    def std(self, method: str, at: float) -> float:
        """Return the epistemic standard deviation at the point of the grid next to `at`."""
        place = int((self.grid - at).abs().argmin())
        return self.found[method].epistemic_std[place].item()

    def ratio(self, method: str) -> float:
        """Return the largest std in the gap over the larger one at its two edges."""
        low, high = CLUSTERS[0][1], CLUSTERS[1][0]
        inside = (self.grid > low) & (self.grid < high)
        largest = self.found[method].epistemic_std[inside].max().item()
        return largest / max(self.std(method, low), self.std(method, high))

    @property
    def lines(self) -> list[str]:
        """The largest std in the gap beside that at its edges."""
        return [
            f"{name}: largest std in the gap {self.ratio(name):.1f} times the larger one at its "
            "edges"
            for name in self.found
        ]


def measure(small: bool = False) -> Result:
    """Train a network with one hidden layer and fit a Gaussian process."""
    torch.manual_seed(0)
    parts = [low + (high - low) * torch.rand(50, dtype=torch.float64) for low, high in CLUSTERS]
    x = torch.cat(parts)
    y = truth(x) + NOISE * torch.randn(100, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Dropout(P), nn.Linear(100, 1)).double()
    steps = 300 if small else 3000
    train(net, nn.MSELoss(), x[:, None], y[:, None], steps=steps, rate=0.01)
    grid = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    # A single dropout before the last layer is answered in closed form: no Monte Carlo error.
    p = mcdrop.predict_with_uncertainty(net, grid[:, None], task="regression", seed=0)
    flat = RegressionPrediction.from_mean_std(p.mean[:, 0], p.std[:, 0], epistemic_std=p.std[:, 0])
    process = GaussianProcess(n_restarts=2).fit(x[:, None], y).predict(grid[:, None])
    return Result(x, y, grid, {"MC dropout": flat, "Gaussian process": process})


def draw(found: Result) -> Figure:
    """Mean and band of the function by both methods."""
    title = "Between two clusters MC dropout stays sure; a Gaussian process does not"
    figure, axes = panels(title, 2, size=(9, 3.9))
    for ax, (name, p), color in zip(axes, found.found.items(), (ORANGE, BLUE), strict=True):
        mean, std = p.mean, p.epistemic_std
        ax.fill_between(found.grid, mean - 2 * std, mean + 2 * std, color=color, alpha=0.2, lw=0)
        ax.plot(found.grid, mean, color=color)
        ax.plot(found.grid, truth(found.grid), color=GREY, lw=1, ls="--")
        ax.scatter(found.x, found.y, color=INK, s=8, zorder=3)
        ax.set_title(f"{name}, mean ± 2 std", color=color, fontweight="bold")
        ax.set(xlabel="x", xlim=(-1.5, 1.5), ylim=(-3, 3))
        text = f"std in the gap {found.ratio(name):.1f} times\nthat at its edges"
        label(ax, -0.1, -2.4, text, color, ha="center")
    label(axes[0], -0.1, 1.5, "truth", GREY, ha="center")
    axes[1].set_yticklabels([])
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
