"""Choosing rate, width, learning rate, momentum and max-norm, measured.

The advice of Srivastava et al. (2014, appendix A): half of the hidden units dropped; n / p units
where n do without dropout (p is the share kept); a learning rate 10 to 100 times as high, with
momentum 0.95 to 0.99; incoming weights of a unit held to a norm of 3 to 4. Each is varied alone,
for a network of one hidden layer on 300 handwritten digits, with and without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from gallery import BLUE, GREY, ORANGE, digits, label, main, panels
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Setting:
    """How one network is trained."""

    rate: float = 0.5
    width: int = 200
    learning_rate: float = 0.03
    momentum: float = 0.95
    max_norm: float = 1e9


CHOICES: dict[str, tuple[str, tuple[float, ...]]] = {
    "rate": ("dropout rate", (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)),
    "width": ("hidden units", (12, 25, 50, 100, 200, 400)),
    "learning_rate": ("learning rate", (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
    "momentum": ("momentum, learning rate 0.01", (0.0, 0.5, 0.9, 0.95, 0.99)),
    "max_norm": ("max-norm, learning rate 0.3", (0.5, 1, 2, 3, 4, 8)),
}


@dataclass(frozen=True)
class Result:
    """Test errors, a list over seeds for each choice, with and without dropout, and value."""

    errors: dict[str, dict[str, list[Tensor]]]

    def mean(self, choice: str, kind: str, value: float) -> float:
        """Return the mean test error of one setting."""
        return self.errors[choice][kind][CHOICES[choice][1].index(value)].mean().item()

    def best(self, choice: str, kind: str) -> tuple[float, float]:
        """Return the best value of a choice and its mean error."""
        means = [errors.mean().item() for errors in self.errors[choice][kind]]
        return CHOICES[choice][1][means.index(min(means))], min(means)

    @property
    def lines(self) -> list[str]:
        """The best value of each, and what it brings."""
        found = []
        for choice, (name, _) in CHOICES.items():
            parts = [
                f"{100 * error:.1f} % at {value:g} {kind}"
                for kind in self.errors[choice]
                for value, error in [self.best(choice, kind)]
            ]
            found.append(f"{name}: lowest test error {', '.join(parts)}")
        return found


def train_many(settings: list[Setting], steps: int, seed: int) -> Tensor:
    """Train networks of one width at a time by SGD, and return their test errors."""
    X, y, X_test, y_test = (part.flatten(1) if part.ndim > 1 else part for part in digits(300))
    draw = torch.Generator().manual_seed(seed)
    k, width = len(settings), settings[0].width
    keep, lr, momentum, norm = (
        torch.tensor([getattr(s, name) for s in settings])[:, None, None]
        for name in ("rate", "learning_rate", "momentum", "max_norm")
    )
    keep = 1 - keep
    weights = [
        ((2 / 64) ** 0.5 * torch.randn(k, 64, width, generator=draw)).requires_grad_(),
        torch.zeros(k, 1, width, requires_grad=True),
        ((1 / width) ** 0.5 * torch.randn(k, width, 10, generator=draw)).requires_grad_(),
        torch.zeros(k, 1, 10, requires_grad=True),
    ]
    speed = [torch.zeros_like(w) for w in weights]

    def logits(x: Tensor, dropped: bool) -> Tensor:
        hidden = (x @ weights[0] + weights[1]).relu()
        if dropped:
            hidden = hidden * (torch.rand(hidden.shape, generator=draw) < keep) / keep
        return hidden @ weights[2] + weights[3]

    for step in range(steps):
        rows = torch.randint(len(X), (50,), generator=draw)
        out = logits(X[rows].expand(k, -1, -1), dropped=True)
        losses = F.cross_entropy(out.flatten(0, 1), y[rows].repeat(k)) * k
        gradients = torch.autograd.grad(losses, weights)
        with torch.no_grad():
            fading = lr * (1 - step / steps)
            for w, v, g in zip(weights, speed, gradients, strict=True):
                v.mul_(momentum).add_(g)
                w.sub_(fading * v)
            for w in (weights[0], weights[2]):
                w.mul_((norm / w.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1))
    with torch.no_grad():
        wrong = logits(X_test.expand(k, -1, -1), dropped=False).argmax(dim=2) != y_test
    return wrong.float().mean(dim=1)


def measure(small: bool = False) -> Result:
    """Vary each choice on its own, with and without dropout, over several seeds."""
    seeds, steps = (1, 30) if small else (3, 300)
    errors: dict[str, dict[str, list[Tensor]]] = {}
    base = {"momentum": Setting(learning_rate=0.01), "max_norm": Setting(learning_rate=0.3)}
    for choice, (_, values) in CHOICES.items():
        kinds = {"with dropout": 0.5, "without": 0.0}
        if choice == "rate":
            kinds = {"with dropout": 0.5}
        for kind, rate in kinds.items():
            start = replace(base.get(choice, Setting()), rate=rate)
            changes: list[dict[str, Any]] = [{choice: value} for value in values]
            settings = [replace(start, **change) for change in changes]
            groups = [[s] for s in settings] if choice == "width" else [settings]
            runs = [
                torch.cat([train_many(group, steps, seed) for group in groups])
                for seed in range(seeds)
            ]
            errors.setdefault(choice, {})[kind] = list(torch.stack(runs, dim=1))
    return Result(errors)


def draw(found: Result) -> Figure:
    """One panel per choice: mean test error with its standard error."""
    title = "On 300 digits learning rate and momentum decide, and dropout gains half a point"
    figure, axes = panels(title, 5, size=(11, 3.4))
    for ax, (choice, (name, values)) in zip(axes, CHOICES.items(), strict=True):
        for kind, color in (("without", ORANGE), ("with dropout", BLUE)):
            if kind in found.errors[choice]:
                _draw_line(ax, values, found.errors[choice][kind], color)
        ax.set(xlabel=name.replace(", ", ",\n"), yscale="log", ylim=(3.8, 40))
        ax.set_yticks([4, 5, 7, 10, 20, 40], ["4", "5", "7", "10", "20", "40"])
        if choice in ("width", "learning_rate", "max_norm"):
            ax.set_xscale("log")
        ax.minorticks_off()
        ax.label_outer(remove_inner_ticks=False)
    axes[3].set_xticks([0, 0.5, 0.95])
    axes[4].set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    axes[1].set_xticks([12, 50, 200], ["12", "50", "200"])
    axes[0].set_title("test error, %", color=GREY)
    label(axes[1], 14, 32, "without dropout", ORANGE)
    label(axes[1], 14, 25, "with dropout", BLUE)
    return figure


def _draw_line(ax: Axes, values: tuple[float, ...], errors: list[Tensor], color: str) -> None:
    """Draw mean and standard error over seeds."""
    means = [100 * e.mean().item() for e in errors]
    spread = [100 * e.std().item() / len(e) ** 0.5 if len(e) > 1 else 0.0 for e in errors]
    ax.errorbar(values, means, spread, color=color, marker="o", ms=4, capsize=2)


if __name__ == "__main__":
    main(measure, draw, __doc__)
