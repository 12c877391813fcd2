"""Spatial dropout: a dropped pixel is given away by its neighbors, a dropped map is not.

A convolutional network reads handwritten digits. Single pixels of its feature maps are dropped, or
whole maps (``nn.Dropout2d``), at the same rate and with the same weights. What a dropped value held
can be read off its neighbors in the first case, so that the dropout changes little: the passes
differ less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREY, ORANGE, digits, label, main, panels, train
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import mcdrop

P, MAPS = 0.3, 16


@dataclass(frozen=True)
class Result:
    """Feature maps of one digit under both kinds, and what each kind does to predictions."""

    maps: Tensor
    pixels: Tensor
    whole: Tensor
    explained: float
    spread: dict[str, float]

    @property
    def lines(self) -> list[str]:
        """Redundancy of neighbors, spread of the passes."""
        pixel, whole = self.spread.values()
        return [
            f"variance of a pixel explained by the four beside it: {100 * self.explained:.0f} %",
            f"std of the logits over passes: {pixel:.2f} dropping pixels, {whole:.2f} dropping "
            f"whole maps, {whole / pixel:.1f} times as much",
        ]


def network(drop: nn.Module) -> nn.Sequential:
    """Two convolutions, with dropout between."""
    return nn.Sequential(
        nn.Conv2d(1, MAPS, 3, padding=1), nn.ReLU(), drop, nn.Conv2d(MAPS, 32, 3, padding=1),
        nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip


def measure(small: bool = False) -> Result:
    """Train once, then compare what the passes of each kind do."""
    X, y, X_test, _ = digits(1200)
    drops: dict[str, nn.Module] = {"pixels": nn.Dropout(P), "whole maps": nn.Dropout2d(P)}
    torch.manual_seed(0)
    net = network(drops["pixels"])
    train(net, nn.CrossEntropyLoss(), X, y, steps=60 if small else 400, rate=3e-3, batch=64)
    spread = {}
    for name, drop in drops.items():  # the same weights, so that the masks alone differ
        net[2] = drop.eval()
        samples = mcdrop.wrap(net).sample(X_test[:300], n_samples=100, seed=0)
        spread[name] = samples.std(dim=0).mean().item()
    with torch.no_grad():
        maps = net[:2](X_test)
    torch.manual_seed(2)
    pixels, whole = F.dropout(maps[0], P) > 0, torch.rand(MAPS, 1, 1) >= P
    shown = maps[0].amax(dim=(1, 2)).argsort(descending=True)[:6].sort().values
    return Result(
        maps[0][shown], (maps[0] * pixels)[shown], (maps[0] * whole)[shown],
        _explained(maps), spread,
    )  # fmt: skip


def _explained(maps: Tensor) -> float:
    """Share of a pixel's variance that a linear function of its four neighbors explains."""
    inner = maps[:, :, 1:-1, 1:-1]
    sides = [
        maps[:, :, :-2, 1:-1],
        maps[:, :, 2:, 1:-1],
        maps[:, :, 1:-1, :-2],
        maps[:, :, 1:-1, 2:],
    ]
    shares = []
    for k in range(maps.shape[1]):
        A = torch.stack([torch.ones_like(inner[:, k]), *(side[:, k] for side in sides)], dim=-1)
        A, b = A.reshape(-1, 5).double(), inner[:, k].reshape(-1, 1).double()
        if b.var() > 1e-6:
            left = b - A @ torch.linalg.lstsq(A, b).solution
            shares.append(1 - (left.var() / b.var()).item())
    return sum(shares) / len(shares)


def draw(found: Result) -> Figure:
    """Maps of one digit under both kinds, and the spread of the passes."""
    title = "Neighbors give away a dropped pixel; a dropped map leaves no trace"
    figure, (left, right) = panels(title, 2, size=(9, 3.1), widths=(2, 1))
    rows = {"all pixels": found.maps, "pixels dropped": found.pixels, "maps dropped": found.whole}
    colors = (GREY, ORANGE, BLUE)
    for i, ((name, maps), color) in enumerate(zip(rows.items(), colors, strict=True)):
        _show_row(left, maps, -9.5 * i, found.maps.amax().item())
        label(left, -1.5, -9.5 * i - 4, name.replace(" ", "\n"), color, ha="right")
    left.set(xlim=(-17, 58), ylim=(-29, 1), aspect="equal")
    left.set_title("six feature maps of one digit")
    left.axis("off")
    for i, (name, value) in enumerate(found.spread.items()):
        color = (ORANGE, BLUE)[i]
        right.barh(-i, value, color=color, height=0.5)
        right.text(0, -i + 0.34, f"{name}: {value:.2f}", color=color, fontweight="bold")
    right.set(ylim=(-1.5, 0.8), title="std of the logits over passes", yticks=[], xticks=[])
    right.spines[["left", "bottom"]].set_visible(False)
    return figure


def _show_row(ax: Axes, maps: Tensor, y0: float, top: float) -> None:
    """Show feature maps beside each other, the first row of pixels on top."""
    for k, each in enumerate(maps):
        x0 = 9.5 * k
        ax.imshow(each.numpy(), cmap="gray_r", vmin=0, vmax=top, extent=(x0, x0 + 8, y0 - 8, y0))
        ax.plot([x0, x0 + 8, x0 + 8, x0, x0], [y0, y0, y0 - 8, y0 - 8, y0], color=GREY, lw=0.6)


if __name__ == "__main__":
    main(measure, draw, __doc__)
