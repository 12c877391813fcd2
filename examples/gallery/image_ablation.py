"""What "improved" MC dropout brings on images: an ablation on digits, clean and corrupted.

Four ways to put dropout into a convolutional network, each one change away from the one before:
before the last layer alone; after every layer; whole filters instead of single pixels; batch
repetition, in which every batch is seen under four sets of masks per step. All are trained on 500
images; the scores are of MC dropout on clean test images, and on noisy, blurred and shifted ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import BLUE, GREY, INK, LIGHT, digits, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import mcdrop
from mcdrop import metrics

VARIANTS = {
    "dropout off": (0.0, False, 1),
    "last layer": (0.0, False, 1),
    "every layer": (0.1, False, 1),
    "whole filters": (0.1, True, 1),
    "batch repetition": (0.1, True, 4),
}
SCORES = {"NLL": "negative log-likelihood", "AUROC": "finding the errors, AUROC"}


def corrupted(X: Tensor) -> dict[str, Tensor]:
    """Return the images clean, noisy, blurred and shifted by a pixel."""
    draw = torch.Generator().manual_seed(0)
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    return {
        "clean": X,
        "noise": (X + 0.3 * torch.randn(X.shape, generator=draw)).clamp(0, 1),
        "blur": F.conv2d(F.conv2d(X, kernel, padding=1), kernel, padding=1),
        "shift": torch.roll(X, 1, dims=3),
    }


def network(conv_rate: float, whole: bool) -> nn.Sequential:
    """Three convolutions and two linear layers; the last one always has dropout before it."""

    def drop() -> nn.Module:
        return nn.Dropout2d(conv_rate) if whole else nn.Dropout(conv_rate)

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), drop(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), drop(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), drop(),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10),
    )  # fmt: skip


class Repeated(nn.Module):
    """Cross-entropy of the mean loss over repetitions of a batch."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the mean over all rows of all repetitions."""
        return F.cross_entropy(logits, y.repeat(self.times))


class Repeating(nn.Module):
    """A network that sees each batch several times, with fresh masks."""

    def __init__(self, net: nn.Module, times: int) -> None:
        super().__init__()
        self.net, self.times = net, times

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the batch, repeated."""
        out: Tensor = self.net(x.repeat(self.times, 1, 1, 1))
        return out


@dataclass(frozen=True)
class Result:
    """Scores by variant, score and condition, over seeds."""

    scores: dict[str, dict[str, dict[str, list[float]]]]

    def mean(self, variant: str, score: str, *, clean: bool) -> float:
        """Return the mean over seeds, of clean images or over all corruptions."""
        return self.over_seeds(variant, score, clean=clean).mean().item()

    def over_seeds(self, variant: str, score: str, *, clean: bool) -> Tensor:
        """Return one value per seed."""
        found = self.scores[variant][score]
        wanted = [torch.tensor(v) for name, v in found.items() if (name == "clean") == clean]
        return torch.stack(wanted).mean(dim=0)

    @property
    def lines(self) -> list[str]:
        """Both scores of each variant, clean and corrupted."""
        return [
            f"{name}: NLL {self.mean(name, 'NLL', clean=True):.3f} clean, "
            f"{self.mean(name, 'NLL', clean=False):.2f} corrupted; AUROC of errors "
            f"{self.mean(name, 'AUROC', clean=True):.2f} clean, "
            f"{self.mean(name, 'AUROC', clean=False):.2f} corrupted"
            for name in self.scores
        ]


def measure(small: bool = False) -> Result:
    """Train every variant and score it on every condition."""
    X, y, X_test, y_test = digits(500)
    n_rows = 200 if small else 600
    X_test, y_test = X_test[:n_rows], y_test[:n_rows]
    conditions = corrupted(X_test)
    scores: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in range(1 if small else 3):
        for name, (rate, whole, times) in VARIANTS.items():
            if name == "last layer":
                continue  # the same training as "dropout off"
            torch.manual_seed(seed)
            net = network(rate, whole)
            train(
                Repeating(net, times), Repeated(times), X, y, steps=20 if small else 250, rate=3e-3,
                batch=64, seed=seed,
            )  # fmt: skip
            for shown in ("dropout off", "last layer") if name == "dropout off" else (name,):
                for condition, images in conditions.items():
                    p = _predicted(net, images, alive=shown != "dropout off")
                    found = scores.setdefault(shown, {s: {} for s in SCORES})
                    found["NLL"].setdefault(condition, []).append(
                        metrics.nll_categorical(p.probs, y_test).mean().item()
                    )
                    found["AUROC"].setdefault(condition, []).append(_auroc(p, y_test))
    return Result(scores)


@torch.no_grad()
def _predicted(net: nn.Module, X: Tensor, *, alive: bool) -> mcdrop.ClassificationPrediction:
    """Predict with dropout alive or off."""
    if alive:
        return mcdrop.predict_with_uncertainty(net, X, task="classification", n_samples=16, seed=0)
    return mcdrop.ClassificationPrediction.from_probs(net.eval()(X).double().softmax(dim=1))


def _auroc(p: mcdrop.ClassificationPrediction, y: Tensor) -> float:
    """Chance that a wrong row is stated as less certain than a right one."""
    wrong = p.labels != y
    return metrics.ood_auroc(p.predictive_entropy, wrong)


def draw(found: Result) -> Figure:
    """Both scores by variant, clean and corrupted."""
    title = "Each change pays on corrupted digits, batch repetition most of all"
    figure, axes = panels(title, 2, size=(9, 3.8))
    names = list(found.scores)
    for ax, (score, text) in zip(axes, SCORES.items(), strict=True):
        for clean, color in ((True, GREY), (False, BLUE)):
            for i, name in enumerate(names):
                seeds = found.over_seeds(name, score, clean=clean)
                ax.scatter(
                    seeds, [-i] * len(seeds), color=LIGHT if clean else color, s=14, alpha=0.5
                )
                ax.scatter(seeds.mean(), -i, color=color, s=60, zorder=3)
        ax.set(title=text + (" (lower is better)" if score == "NLL" else ""), yticks=[])
        ax.set_ylim(-len(names) + 0.5, 0.9)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks([-i for i in range(len(names))], names)
    for clean, color, text in ((True, GREY, "clean"), (False, BLUE, "corrupted")):
        label(axes[0], found.mean(names[0], "NLL", clean=clean), 0.6, text, color, ha="center")
    axes[0].tick_params(axis="y", length=0, colors=INK)
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
