"""What the scripts of the gallery share: the command line, training, digits, the look of pictures.

Every script has ``measure(small)``, which makes the run and returns its figures, ``draw``, which
makes the picture, and `Found.lines`, the sentences that it prints. Run one with
``python examples/gallery/NAME.py --out FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from sklearn.datasets import load_digits
from torch import Tensor, nn

__all__ = [
    "BLUE", "GREEN", "GREY", "INK", "LIGHT", "ORANGE", "STYLE", "Found", "digits", "label", "main",
    "panels", "train",
]  # fmt: skip

INK, GREY, LIGHT = "#1d232b", "#5b6470", "#d8dce1"
# Okabe & Ito (2008), told apart under the common forms of color blindness.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
STYLE: dict[str, Any] = {
    "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 11, "axes.titlelocation": "left", "figure.constrained_layout.use": True,
    "lines.linewidth": 2,
}  # fmt: skip


class Found(Protocol):
    """The figures of one run."""

    @property
    def lines(self) -> Sequence[str]:
        """The figures as sentences."""


F = TypeVar("F", bound=Found)


def main(measure: Callable[[bool], F], draw: Callable[[F], Figure], doc: str | None) -> None:
    """Make the run, print its figures, write its picture."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the picture")
    parser.add_argument("--record", type=Path, help="JSON file that keeps the printed sentences")
    parser.add_argument(
        "--small", action="store_true", help="a trial run, whose figures mean little"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.small)
    with context(["default", STYLE]):
        figure = draw(found)
        figure.savefig(options.out / f"{name}.png", dpi=120)
    print("\n".join(found.lines))
    if options.record:
        record = json.loads(options.record.read_text()) if options.record.exists() else {}
        record[name] = list(found.lines)
        text = json.dumps(dict(sorted(record.items())), indent=2, ensure_ascii=False)
        options.record.write_text(f"{text}\n")


def train(
    net: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    X: Tensor,
    y: Tensor,
    *,
    steps: int,
    rate: float = 1e-2,
    batch: int | None = None,
    weight_decay: float = 0.0,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train by AdamW with a cosine decay of its rate; `seed` draws batches and masks."""
    torch.manual_seed(seed)
    adam = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        rows = slice(None) if batch is None else torch.randint(len(X), (batch,))
        adam.zero_grad()
        loss(net.train()(X[rows]), y[rows]).backward()
        adam.step()
        cosine.step()
        if watch is not None:
            watch(step)
    return net.eval()


def digits(n_train: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scikit-learn's digits, images (N, 1, 8, 8) in [0, 1]: X and y of train and test."""
    X, y = load_digits(return_X_y=True)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    images = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
    labels = torch.tensor(y)[order]
    return images[:n_train], labels[:n_train], images[n_train:], labels[n_train:]


def panels(
    title: str, n: int = 1, *, size: tuple[float, float] = (9.0, 4.0), widths: Any = None
) -> tuple[Figure, Any]:
    """Return a figure under its finding, with axes beside each other."""
    figure = Figure(figsize=size)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13.5, fontweight="bold")
    axes = figure.subplots(1, n, squeeze=False, width_ratios=widths)[0]
    return figure, axes[0] if n == 1 else axes


def label(ax: Axes, x: float, y: float, text: str, color: str, **options: Any) -> None:
    """Write a label beside what it names, in its color."""
    ax.text(x, y, text, color=color, fontweight="bold", **{"va": "center", **options})
