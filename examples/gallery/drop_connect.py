"""DropConnect beside dropout: the same spread of each output, but no correlation between them.

For a linear layer and the same rate p both give output j the variance
p / (1 - p) sum_i (W_ji x_i)^2. A dropped unit is missing from all outputs at a time, which gives
outputs j and k the covariance p / (1 - p) sum_i W_ji W_ki x_i^2; a dropped weight is missing from
one output, and their covariance is 0. The layer is the last one of a network that reads digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from gallery import BLUE, INK, ORANGE, digits, label, main, panels, train
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop
from mcdrop.layers import DropConnectLinear

P = 0.5


@dataclass(frozen=True)
class Result:
    """Passes of two logits by either kind, with their exact moments."""

    pair: tuple[int, int]
    samples: dict[str, Tensor]
    center: Tensor
    covariance: dict[str, Tensor]

    def correlation(self, kind: str) -> float:
        """Return the correlation of the two logits over passes."""
        return torch.corrcoef(self.samples[kind].T)[0, 1].item()

    def exact_correlation(self, kind: str) -> float:
        """Return the correlation by the formula."""
        cov = self.covariance[kind]
        return (cov[0, 1] / (cov[0, 0] * cov[1, 1]).sqrt()).item()

    @property
    def lines(self) -> list[str]:
        """Standard deviations and correlations, of passes and exact."""
        found = []
        for kind, samples in self.samples.items():
            measured = " and ".join(f"{s:.2f}" for s in samples.std(dim=0))
            exact = " and ".join(f"{s:.2f}" for s in self.covariance[kind].diag().sqrt())
            found.append(
                f"{kind}: std of the two logits {measured} (exact {exact}), correlation "
                f"{self.correlation(kind):.2f} (exact {self.exact_correlation(kind):.2f})"
            )
        return found


def measure(small: bool = False) -> Result:
    """Train the network, then drop units or weights of its last layer."""
    X, y, X_test, _ = digits(1200)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
    last = nn.Linear(64, 10)
    net = nn.Sequential(body, nn.Dropout(P), last)
    train(net, nn.CrossEntropyLoss(), X, y, steps=100 if small else 500, rate=3e-3, batch=64)
    connect = nn.Sequential(body, DropConnectLinear.from_linear(last, P)).eval()
    x = X_test[:1]
    with torch.no_grad():
        parts = last.weight * body(x)  # (10, 64): what each unit adds to each logit
        center = net(x)[0]
    shared = P / (1 - P) * parts @ parts.T
    # Of the pairs of logits the one that dropped units tie together most.
    ties = shared / shared.diag().outer(shared.diag()).sqrt() - torch.eye(10)
    place = int(ties.abs().argmax())
    pair = (place // 10, place % 10)
    chosen = list(pair)
    n = 500 if small else 4000
    samples = {
        "units": mcdrop.wrap(net, stratified=False).sample(x, n_samples=n, seed=0)[:, 0, chosen],
        "weights": mcdrop.wrap(connect, stratified=False).sample(x, n_samples=n, seed=0)[
            :, 0, chosen
        ],
    }
    covariance = {"units": shared[chosen][:, chosen], "weights": shared.diag()[chosen].diag()}
    return Result(pair, samples, center[chosen], covariance)


def draw(found: Result) -> Figure:
    """Passes of two logits, with the ellipse that holds 90 % by the formula."""
    title = "DropConnect spreads each output as much as dropout, but each one on its own"
    figure, axes = panels(title, 2, size=(9, 4.4))
    texts = {"units": "dropout: units are dropped", "weights": "DropConnect: weights are dropped"}
    for ax, (kind, samples), color in zip(axes, found.samples.items(), (ORANGE, BLUE), strict=True):
        ax.scatter(*samples[:1000].T, s=5, color=color, alpha=0.35, lw=0)
        _draw_ellipse(ax, found.center, found.covariance[kind])
        ax.set_title(texts[kind], color=color, fontweight="bold")
        ax.set(xlabel=f"logit of class {found.pair[0]}", ylabel=f"logit of class {found.pair[1]}")
        text = f"correlation {found.correlation(kind):.2f}".replace("-", "\N{MINUS SIGN}")
        label(ax, 0.03, 0.95, text, color, transform=ax.transAxes)
    limits = [*axes[0].dataLim.union([ax.dataLim for ax in axes]).intervalx]
    heights = [*axes[0].dataLim.union([ax.dataLim for ax in axes]).intervaly]
    for ax in axes:
        ax.set(xlim=limits, ylim=(heights[0], heights[1] + 0.15 * (heights[1] - heights[0])))
    label(
        axes[1],
        0.97,
        0.04,
        "ellipse: exact covariance, 90 %",
        INK,
        transform=axes[1].transAxes,
        ha="right",
    )
    return figure


def _draw_ellipse(ax: Axes, center: Tensor, covariance: Tensor) -> None:
    """Draw the line within which 90 % of a normal distribution lie."""
    turn = torch.linspace(0, 2 * math.pi, 200)
    circle = torch.stack([turn.cos(), turn.sin()])
    radius = math.sqrt(-2 * math.log(0.1))  # of a chi-squared with 2 degrees of freedom
    line = center[:, None] + radius * torch.linalg.cholesky(covariance) @ circle
    ax.plot(*line, color=INK, lw=1.5)


if __name__ == "__main__":
    main(measure, draw, __doc__)
