"""Dropout of inputs is ridge regression: coefficients trained under dropout lie on the ridge path.

A linear model whose inputs are dropped at rate p minimizes, in expectation over masks, the squared
error plus p / (1 - p) diag(X'X) times the squared coefficients. The path is computed from this
formula; the dots are trained by dropout and know nothing of it. Diabetes data, standardized.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREEN, GREY, LIGHT, ORANGE, label, main, panels
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from torch import Tensor

from mcdrop.baselines import equivalent_ridge_penalty

RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
SHOWN = {"s5": ORANGE, "bmi": BLUE, "bp": GREEN}


@dataclass(frozen=True)
class Result:
    """Coefficients by rate: of the formula over a grid, and trained under dropout."""

    names: list[str]
    grid: Tensor
    path: Tensor
    exact: Tensor
    trained: Tensor

    @property
    def gap(self) -> float:
        """Largest distance of a trained coefficient from the path."""
        return (self.trained - self.exact).abs().max().item()

    @property
    def lines(self) -> list[str]:
        """Distance between training and formula, beside the size of the coefficients."""
        return [
            f"largest gap between coefficients trained under dropout and ridge: {self.gap:.3f}, "
            f"where coefficients reach {self.exact.abs().max():.3f}"
        ]


def ridge(X: Tensor, y: Tensor, p: float) -> Tensor:
    """Return the coefficients with the penalty that dropout at rate `p` imposes."""
    penalty = torch.as_tensor(equivalent_ridge_penalty(X, p))
    return torch.linalg.solve(X.T @ X + penalty.diag(), X.T @ y)


def measure(small: bool = False) -> Result:
    """Train under dropout at several rates at a time."""
    data = load_diabetes()
    X, y = torch.tensor(data.data), torch.tensor(data.target)
    X, y = (X - X.mean(dim=0)) / X.std(dim=0), (y - y.mean()) / y.std()
    grid = torch.linspace(0, 0.95, 96, dtype=torch.float64)
    path = torch.stack([ridge(X, y, p) for p in grid.tolist()])
    exact = torch.stack([ridge(X, y, p) for p in RATES])
    trained = under_dropout(X, y, 400 if small else 3000)
    return Result(list(data.feature_names), grid, path, exact, trained)


def under_dropout(X: Tensor, y: Tensor, steps: int) -> Tensor:
    """Gradient descent on the squared error of masked inputs, averaged over the second half."""
    torch.manual_seed(0)
    keep = 1 - torch.tensor(RATES, dtype=torch.float64)[:, None, None]
    weights = torch.zeros(len(RATES), X.shape[1], 1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.03)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    total, n = torch.zeros_like(weights), 0
    for step in range(steps):
        masked = X * (torch.rand(len(RATES), *X.shape) < keep) / keep
        adam.zero_grad()
        (masked @ weights - y[:, None]).square().mean(dim=1).sum().backward()
        adam.step()
        cosine.step()
        if step >= steps // 2:
            total, n = total + weights.detach(), n + 1
    return (total / n)[..., 0]


def draw(found: Result) -> Figure:
    """The ridge path with the trained dots."""
    figure, ax = panels("Dropout of inputs is ridge: training under dropout lands on its path")
    for i, name in enumerate(found.names):
        color = SHOWN.get(name, LIGHT)
        ax.plot(found.grid, found.path[:, i], color=color, zorder=2 if name in SHOWN else 1)
        ax.scatter(RATES, found.trained[:, i], color=SHOWN.get(name, GREY), s=26, zorder=3)
        if name in SHOWN:
            label(ax, -0.01, found.path[0, i].item(), name, color, ha="right")
    text = "lines: ridge with the penalty p / (1 \N{MINUS SIGN} p) diag(X'X)"
    text += "\ndots: trained under dropout"
    label(ax, 0.4, 0.92, text, GREY, transform=ax.transAxes)
    ax.axhline(0, color=GREY, lw=0.6, zorder=0)
    ax.set(xlabel="dropout rate of the inputs, p", title="coefficient", xlim=(-0.06, 0.97))
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
