"""BatchNorm beside dropout: with dropout off the variances no longer match; alive, they do.

Batch normalization keeps the variance that it saw in training, under dropout. Switched off, dropout
takes its share of that variance away, and every later layer sees inputs of the wrong scale (the
variance shift of Li et al. 2019). Passes with live dropout have the variance that was kept. Calling
``model.train()`` to get them is no way: it overwrites the statistics by those of the test rows.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from gallery import BLUE, GREY, ORANGE, digits, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop

P = 0.5


@dataclass(frozen=True)
class Result:
    """Variance over the variance kept, by layer; and how far predicting moved the statistics."""

    off: list[float]
    alive: list[float]
    moved: dict[str, float]

    @property
    def lines(self) -> list[str]:
        """The ratios, and the changes to the model."""
        off = ", ".join(f"{ratio:.2f}" for ratio in self.off)
        alive = ", ".join(f"{ratio:.2f}" for ratio in self.alive)
        return [
            f"variance over the variance kept, by layer: {off} with dropout off, {alive} alive",
            f"running means moved by ten predictions: {100 * self.moved['train()']:.0f} % under "
            f"train(), {100 * self.moved['mcdrop']:.0f} % under mcdrop",
        ]


class Ratios(nn.Module):
    """Variance of the inputs of each BatchNorm over the variance that it kept, for every row."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the ratios, (N, layers)."""
        ratios = []
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm1d):
                ratios.append(x.var(dim=0).sum() / layer.get_buffer("running_var").sum())
            x = layer(x)
        return torch.stack(ratios).expand(len(x), -1)


def network() -> nn.Sequential:
    """Four blocks: linear, BatchNorm, ReLU, dropout."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = 64
    for _ in range(4):
        layers += [nn.Linear(width, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(P)]
        width = 128
    return nn.Sequential(*layers, nn.Linear(width, 10))


def measure(small: bool = False) -> Result:
    """Train, and compare the variance at each BatchNorm with the one it kept."""
    X, y, X_test, _ = digits(1200)
    torch.manual_seed(0)
    net = network()
    train(net, nn.CrossEntropyLoss(), X, y, steps=200 if small else 600, rate=3e-3, batch=100)
    ratios = Ratios(net).eval()
    with torch.no_grad():
        off = ratios(X)[0]
    alive = mcdrop.wrap(ratios).sample(X, n_samples=20, seed=0)[:, 0].mean(dim=0)
    ways: dict[str, Callable[[nn.Module], Any]] = {
        "train()": lambda model: [model.train()(X_test[:50]) for _ in range(10)],
        "mcdrop": lambda model: mcdrop.predict_with_uncertainty(
            model, X_test[:50], task="classification", n_samples=10, seed=0
        ),
    }
    moved = {name: _moved(net, predict) for name, predict in ways.items()}
    return Result(off.tolist(), alive.tolist(), moved)


@torch.no_grad()
def _moved(net: nn.Module, predict: Callable[[nn.Module], Any]) -> float:
    """Relative change of the running means of a copy by predicting."""
    model = deepcopy(net)
    before = torch.cat([m.running_mean.clone() for m in _norms(model)])
    predict(model)
    after = torch.cat([m.running_mean for m in _norms(model)])
    return ((after - before).norm() / before.norm()).item()


def _norms(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


def draw(found: Result) -> Figure:
    """The ratio by layer, with dropout off and alive."""
    title = "Dropout off leaves BatchNorm with the wrong variance; live dropout does not"
    figure, ax = panels(title, size=(9, 3.6))
    layers = range(1, len(found.off) + 1)
    for ratios, color, text in (
        (found.off, ORANGE, "dropout off"), (found.alive, BLUE, "dropout alive (mcdrop)")
    ):  # fmt: skip
        ax.plot(layers, ratios, "o-", color=color)
        label(ax, len(found.off) + 0.08, ratios[-1] - 0.03, text, color)
    ax.axhline(1, color=GREY, lw=0.8, ls="--", zorder=0)
    label(ax, 1, 1.02, "as in training", GREY, va="bottom")
    ax.set(title="variance of the inputs, over the variance that BatchNorm kept", ylim=(0.5, 1.15))
    ax.set(xticks=list(layers), xlabel="BatchNorm layer", xlim=(0.8, len(found.off) + 1.2))
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
