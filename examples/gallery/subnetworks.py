"""Dropout on n units samples 2^n sub-networks: all of them drawn, and their exact mean.

A trained network with four hidden units that may be dropped has 16 sub-networks, and its predictive
mean and variance are weighted sums over them. Monte Carlo dropout samples the same sums: its
estimate comes within its stated standard error. Dropout off is another number, as the layer after
the dropped units is not linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from gallery import BLUE, GREY, INK, LIGHT, ORANGE, label, main, panels, train
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop

P, UNITS, NEXT = 0.3, 4, 3


@dataclass(frozen=True)
class Result:
    """Outputs of all sub-networks, their exact moments, and estimates from passes."""

    masks: list[tuple[int, ...]]
    chances: Tensor
    outputs: Tensor
    off: float
    counts: list[int]
    means: list[float]
    errors: list[float]
    std: float

    @property
    def mean(self) -> float:
        """The exact predictive mean."""
        return (self.chances * self.outputs).sum().item()

    @property
    def exact_std(self) -> float:
        """The exact standard deviation over sub-networks."""
        variance = (self.chances * (self.outputs - self.mean).square()).sum()
        return variance.sqrt().item()

    @property
    def lines(self) -> list[str]:
        """Exact and sampled moments."""
        return [
            f"mean of all {len(self.masks)} sub-networks: {self.mean:.4f}; of {self.counts[-1]} "
            f"passes: {self.means[-1]:.4f} ± {self.errors[-1]:.4f}; dropout off: {self.off:.4f}",
            f"standard deviation of all: {self.exact_std:.4f}; of the passes: {self.std:.4f}",
        ]


def measure(small: bool = False) -> Result:
    """Train the network, enumerate its sub-networks, and sample them."""
    torch.manual_seed(3)
    X = 2 * torch.rand(200, 2) - 1
    y = (2 * X[:, :1] * X[:, 1:]) + X[:, :1]
    net = nn.Sequential(
        nn.Linear(2, UNITS), nn.Tanh(), nn.Dropout(P), nn.Linear(UNITS, NEXT), nn.Tanh(),
        nn.Linear(NEXT, 1),
    )  # fmt: skip
    train(net, nn.MSELoss(), X, y, steps=300 if small else 1500, rate=0.02)
    net = net.double()
    x = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    masks = list(product((0, 1), repeat=UNITS))
    with torch.no_grad():
        kept = torch.tensor(masks, dtype=torch.float64)
        outputs = net[3:](net[:2](x) * kept / (1 - P))[:, 0]
        off = net(x).item()
    n_kept = kept.sum(dim=1)
    chances = (1 - P) ** n_kept * P ** (UNITS - n_kept)
    mc = mcdrop.wrap(net, stratified=False)
    counts = [10, 30, 100, 300, 1000, 3000, 10_000][: 5 if small else 7]
    found = [
        mc.predict_with_uncertainty(
            x, task="regression", n_samples=n, seed=n, control_variate=False
        )
        for n in counts
    ]
    means = [p.mean.item() for p in found]
    errors = [p.mcse.item() for p in found]
    return Result(masks, chances, outputs, off, counts, means, errors, found[-1].std.item())


def draw(found: Result) -> Figure:
    """Every sub-network, colored by its output, and the passes' estimate beside the exact mean."""
    figure, (left, right) = panels(
        "Dropout samples sub-networks: the passes reach the exact mean of all 16", 2,
        size=(9, 4.6), widths=(1.25, 1),
    )  # fmt: skip
    low, high = found.outputs.min().item(), found.outputs.max().item()
    colors = colormaps["viridis"]
    for i, mask in enumerate(found.masks[::-1]):
        value = found.outputs[len(found.masks) - 1 - i].item()
        chance = found.chances[len(found.masks) - 1 - i].item()
        color = to_hex(colors(0.9 * (value - low) / (high - low)))
        _draw_network(left, mask, 1.35 * (i % 4), -1.45 * (i // 4), color, value, chance)
    left.set(title="each with its output, and its chance to be drawn", aspect="equal")
    left.axis("off")
    right.axhline(found.mean, color=INK, lw=1.5)
    right.axhline(found.off, color=ORANGE, lw=1.5, ls="--")
    right.errorbar(
        found.counts, found.means, [2 * e for e in found.errors], color=BLUE, fmt="o", capsize=3
    )
    right.set(xscale="log", xlabel="passes", title="predictive mean")
    end = found.counts[-1] * 10
    right.set_xlim(found.counts[0] / 1.4, end)
    label(right, end, found.mean, "exact mean", INK, va="bottom", ha="right")
    label(right, end, found.off, "dropout off", ORANGE, va="bottom", ha="right")
    lowest = found.means[0] - 2 * found.errors[0]
    label(right, found.counts[0] * 1.25, lowest, "passes, ± 2 standard errors", BLUE, va="bottom")
    return figure


def _draw_network(
    ax: Axes, mask: tuple[int, ...], x0: float, y0: float, color: str, value: float, chance: float
) -> None:
    """Draw one sub-network; dropped units are hollow and lose their edges."""
    inputs = [(x0, y0 - 0.25), (x0, y0 - 0.6)]
    units = [(x0 + 0.35, y0 - 0.1 - 0.22 * k) for k in range(UNITS)]
    later = [(x0 + 0.7, y0 - 0.2 - 0.22 * k) for k in range(NEXT)]
    out = (x0 + 1.0, y0 - 0.42)
    for unit, kept in zip(units, mask, strict=True):
        for other in [*inputs, *later] if kept else []:
            ax.plot(*zip(unit, other, strict=True), color=LIGHT, lw=0.8, zorder=1)
        ax.scatter(*unit, s=26, facecolor=GREY if kept else "white", edgecolor=GREY, zorder=2)
    for point in later:
        ax.plot(*zip(point, out, strict=True), color=LIGHT, lw=0.8, zorder=1)
    for point in [*inputs, *later]:
        ax.scatter(*point, s=12, color=GREY, zorder=2)
    ax.scatter(*out, s=70, color=color, zorder=2)
    text = f"{value:.2f}   {100 * chance:.0f} %"
    ax.text(x0 + 0.5, y0 - 1.08, text, ha="center", fontsize=8.5, color=INK)


if __name__ == "__main__":
    main(measure, draw, __doc__)
