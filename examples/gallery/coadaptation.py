"""Co-adaptation: units trained together fail apart, unless dropout has trained them alone.

Two autoencoders of handwritten digits, 64 pixels to 128 hidden units and back, with and without
dropout of half of the units in training. What a unit has learned shows in its weights to the
pixels: an unstructured pattern, or a spot of its own. Removing units after training tells how much
the others rely on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, INK, ORANGE, digits, label, main, panels, train
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

HIDDEN, P, SHOWN = 128, 0.5, 6
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Result:
    """Features of both networks, and their errors with units removed."""

    features: dict[str, Tensor]
    errors: dict[str, list[float]]

    @property
    def lines(self) -> list[str]:
        """How many times larger the error is without some units."""
        return [
            f"{name}: squared error {errors[0]:.4f} with all units, {errors[1] / errors[0]:.1f} "
            f"times that without 10 % of them, {errors[-1] / errors[0]:.1f} times without 50 %"
            for name, errors in self.errors.items()
        ]


def measure(small: bool = False) -> Result:
    """Train both autoencoders and remove random units from each."""
    X, _, X_test, _ = digits(1200)
    pixels, held_out = X.flatten(1), X_test.flatten(1)
    features, errors = {}, {}
    for name, p in (("without dropout", 0.0), ("with dropout", P)):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(64, HIDDEN), nn.ReLU(), nn.Dropout(p), nn.Linear(HIDDEN, 64), nn.Sigmoid()
        )
        steps = 600 if small else 4000
        train(net, nn.MSELoss(), pixels, pixels, steps=steps, rate=3e-3, batch=64, weight_decay=0.3)
        features[name] = net.get_parameter("3.weight").detach().T
        errors[name] = [_error_without(net, held_out, share) for share in SHARES]
    return Result(features, errors)


@torch.no_grad()
def _error_without(net: nn.Sequential, pixels: Tensor, share: float) -> float:
    """Mean squared error when a random share of units is removed and the rest scaled up."""
    draw = torch.Generator().manual_seed(0)
    hidden = net[:2](pixels)
    found = []
    for _ in range(40):
        keep = torch.rand(HIDDEN, generator=draw).argsort() >= share * HIDDEN
        found.append((net[3:](hidden * keep / keep.float().mean()) - pixels).square().mean().item())
    return sum(found) / len(found)


def draw(found: Result) -> Figure:
    """Features of both networks, and error by share of units removed."""
    title = "Units trained without dropout rely on each other: removing some breaks the rest"
    figure, (one, two, right) = panels(title, 3, size=(9, 3.6), widths=(1, 1, 1.5))
    colors = dict(zip(found.features, (ORANGE, BLUE), strict=True))
    for ax, (name, weights) in zip((one, two), found.features.items(), strict=True):
        _show_features(ax, weights)
        ax.set_title(f"{SHOWN**2} units {name}", color=colors[name], fontweight="bold")
    for name, errors in found.errors.items():
        right.plot([100 * s for s in SHARES], errors, color=colors[name], marker="o")
        label(right, 52, errors[-1], name.replace(" ", "\n"), colors[name])
    right.set(xlabel="units removed after training, %", title="error of reconstruction")
    right.set(xlim=(-2, 75), ylim=(0, None), xticks=[0, 10, 20, 30, 40, 50])
    return figure


def _show_features(ax: Axes, weights: Tensor) -> None:
    """Show the weights of the units with the largest weights as images."""
    strongest = weights.norm(dim=1).argsort(descending=True)[: SHOWN**2]
    images = weights[strongest].reshape(SHOWN, SHOWN, 8, 8)
    images = images / images.abs().amax(dim=(2, 3), keepdim=True)
    framed = torch.nn.functional.pad(images, (0, 1, 0, 1), value=float("nan"))
    ax.imshow(framed.permute(0, 2, 1, 3).reshape(9 * SHOWN, 9 * SHOWN).numpy(), cmap="gray")
    ax.axis("off")
    ax.title.set_color(INK)


if __name__ == "__main__":
    main(measure, draw, __doc__)
