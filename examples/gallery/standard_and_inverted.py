"""Dropout from scratch: the standard kind and the inverted kind make the same predictions.

Standard dropout multiplies by a mask of zeros and ones in training, and has to multiply by 1 - p in
prediction. Inverted dropout divides by 1 - p in training already, and leaves prediction alone;
torch's is of this kind, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREEN, GREY, LIGHT, ORANGE, label, main, panels
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

P = 0.5


def standard(x: Tensor, keep: Tensor) -> Tensor:
    """Standard dropout in training (Srivastava et al. 2014)."""
    return x * keep


def standard_in_prediction(x: Tensor) -> Tensor:
    """Standard dropout in prediction: the mean over masks."""
    return (1 - P) * x


def inverted(x: Tensor, keep: Tensor) -> Tensor:
    """Inverted dropout in training; in prediction nothing is left to do."""
    return x * keep / (1 - P)


@dataclass(frozen=True)
class Result:
    """What one unit of the next layer receives, by mask and in prediction."""

    standard: Tensor
    inverted: Tensor
    forgotten: float
    scaled: float
    untouched: float
    as_torch: bool

    @property
    def lines(self) -> list[str]:
        """Means over masks beside what prediction uses."""
        n = len(self.standard) ** 0.5
        return [
            f"standard: mean over masks {self.standard.mean():.3f} ± {self.standard.std() / n:.3f},"
            f" in prediction {self.scaled:.3f} times 1 - p, {self.forgotten:.3f} without it",
            f"inverted: mean over masks {self.inverted.mean():.3f} ± {self.inverted.std() / n:.3f},"
            f" in prediction {self.untouched:.3f}, untouched",
            f"equal to torch's dropout to the last bit: {'yes' if self.as_torch else 'no'}",
        ]


def measure(small: bool = False) -> Result:
    """Send 100 activations through many masks of both kinds."""
    torch.manual_seed(0)
    hidden, weight = torch.rand(100), torch.randn(100) * 0.1 + 0.1
    keep = (torch.rand(1000 if small else 20_000, 100) >= P).float()
    # Torch's own mask, read off what it makes of ones, in an equal call.
    torch.manual_seed(1)
    opened = (F.dropout(torch.ones(100), P) > 0).float()
    torch.manual_seed(1)
    as_torch = bool((F.dropout(hidden, P) == inverted(hidden, opened)).all())
    return Result(
        standard(hidden, keep) @ weight,
        inverted(hidden, keep) @ weight,
        (hidden @ weight).item(),
        (standard_in_prediction(hidden) @ weight).item(),
        (hidden @ weight).item(),
        as_torch,
    )


def draw(found: Result) -> Figure:
    """Histograms over masks, with the value that prediction uses."""
    figure, axes = panels(
        "Standard dropout must be rescaled in prediction; inverted dropout needs nothing", 2
    )
    span = (min(found.standard.min().item(), 0), found.inverted.max().item())
    kinds = (
        ("standard: x · mask", found.standard),
        ("inverted: x · mask / (1 \N{MINUS SIGN} p)", found.inverted),
    )
    for ax, (title, values) in zip(axes, kinds, strict=True):
        heights, _, _ = ax.hist(values, bins=60, range=span, color=LIGHT)
        top = heights.max()
        ax.set(title=title, xlabel="input of a unit in the next layer", yticks=[])
        ax.set_ylim(0, 1.45 * top)
        ax.spines["left"].set_visible(False)
        right = values.mean().item() + 1.6 * values.std().item()
        label(ax, right, 0.4 * top, "training:\none value\nper mask", GREY)
        marks = (
            [
                (found.scaled, "prediction\ntimes 1 \N{MINUS SIGN} p", GREEN),
                (found.forgotten, "without it", ORANGE),
            ]
            if values is found.standard
            else [(found.untouched, "prediction,\nuntouched", BLUE)]
        )
        for at, text, color in marks:
            ax.plot([at, at], [0, 1.15 * top], color=color)
            label(ax, at, 1.3 * top, text, color, ha="center")
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
