"""Digits 0-4 in training, 5-9 unknown; test images rotated, shifted and noisy at five strengths.

MC dropout is held against dropout off, one network without dropout and a deep ensemble of five:
accuracy, log-likelihood, calibration, detection of the unknown digits, and what referring the most
uncertain images to somebody else brings. An ablation puts dropout after every layer, drops whole
filters, and repeats batches. `python examples/digits.py --out FOLDER` takes about five minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.progress import track
from studies.corruptions import conditions
from studies.digits_picture import draw
from studies.study import Content, digits, main, mean_and_error, rounded, train
from torch import Tensor, nn
from torch.nn import functional as F

import mcdrop
from mcdrop import ClassificationPrediction, metrics

CLASSES, N_TRAIN, N_TEST, MEMBERS, PASSES = 5, 400, 300, 5, 32
REFERRED = tuple(round(0.05 * i, 2) for i in range(20))


@dataclass(frozen=True)
class Recipe:
    """Where dropout goes, and how the network is trained.

    Attributes:
        conv_rate: Dropout after every convolution.
        last_rate: Dropout before the output layer.
        whole: Drop whole filters instead of single pixels.
        repetitions: Each step sees its batch under so many sets of masks.
        steps: Of AdamW, in batches of 64.
    """

    conv_rate: float = 0.1
    last_rate: float = 0.5
    whole: bool = False
    repetitions: int = 1
    steps: int = 300


NO_DROPOUT = Recipe(0.0, 0.0)
# The steps of "improved MC dropout" in Nado et al. (2021), one after the other; the last one
# spends what four repetitions cost on steps.
RECIPES = {
    "last layer": Recipe(0.0),
    "every layer": Recipe(),
    "whole filters": Recipe(whole=True),
    "batch repetition": Recipe(whole=True, repetitions=4),
    "four times the steps": Recipe(whole=True, steps=1200),
}


class Repeated(nn.Module):
    """A network that sees each training batch several times, with fresh masks."""

    def __init__(self, net: nn.Module, times: int) -> None:
        super().__init__()
        self.net, self.times = net, times

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (times, N, C) of images (N, 1, 8, 8)."""
        out: Tensor = self.net(x.repeat(self.times, 1, 1, 1))
        return out.unflatten(0, (self.times, -1))


def network(recipe: Recipe) -> nn.Sequential:
    """Three convolutions and two linear layers."""

    def drop() -> nn.Module:
        return nn.Dropout2d(recipe.conv_rate) if recipe.whole else nn.Dropout(recipe.conv_rate)

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), drop(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), drop(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), drop(),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(recipe.last_rate),
        nn.Linear(64, CLASSES),
    )  # fmt: skip


def trained(recipe: Recipe, X: Tensor, y: Tensor, seed: int, steps: int | None) -> nn.Module:
    """Train a network; `steps` in place of those of the recipe makes a trial."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))

    torch.manual_seed(seed)
    net = network(recipe)
    repeated = Repeated(net, recipe.repetitions)
    train(repeated, loss, X, y, steps=steps or recipe.steps, rate=3e-3, batch=64, seed=seed)
    return net.eval()


@torch.no_grad()
def predictions(seed: int, small: bool) -> tuple[dict[str, ClassificationPrediction], Tensor]:
    """Train and predict by every method.

    Returns:
        Predictions of all conditions one after the other and then of as many unknown digits, and
        the labels of one condition.
    """
    images, labels, *_ = digits(1797, seed)
    known = labels < CLASSES
    X, y = images[known], labels[known]
    X, X_test, y, y_test = X[:N_TRAIN], X[N_TRAIN:], y[:N_TRAIN], y[N_TRAIN:]
    n_test = 60 if small else N_TEST
    X_test, y_test = X_test[:n_test], y_test[:n_test]
    shown = conditions(X_test, seed)
    rows = torch.cat([*shown.values(), images[~known][:n_test]])
    steps = 40 if small else None
    found = {}
    with torch.enable_grad():
        members = [trained(NO_DROPOUT, X, y, 100 * seed + i, steps) for i in range(MEMBERS)]
        nets = {name: trained(recipe, X, y, seed, steps) for name, recipe in RECIPES.items()}
    probs = torch.stack([member(rows).double().softmax(dim=1) for member in members])
    found["no dropout"] = ClassificationPrediction.from_probs(probs[0])
    found["deep ensemble"] = ClassificationPrediction.from_samples(probs)
    for name, net in nets.items():
        found[f"{name}, off"] = ClassificationPrediction.from_probs(net(rows).double().softmax(1))
        found[f"{name}, MC"] = mcdrop.predict_with_uncertainty(
            net, rows, task="classification", n_samples=PASSES, seed=seed
        )
    return found, y_test


def scores(p: ClassificationPrediction, y: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Score one prediction of all conditions and of the unknown digits, which come last."""
    n = len(y)
    parts = {name: p[i * n : (i + 1) * n] for i, name in enumerate(names)}
    clean, unknown = parts["clean"], p[len(names) * n :]
    is_unknown = torch.arange(2 * n) >= n
    entropy = torch.cat([clean.predictive_entropy, unknown.predictive_entropy])
    information = torch.cat([clean.mutual_information, unknown.mutual_information])
    wrong = torch.cat([clean.labels != y, torch.ones(n, dtype=torch.bool)]).double()
    return {
        "accuracy": {k: metrics.accuracy(q.probs, y) for k, q in parts.items()},
        "NLL": {k: metrics.nll_categorical(q.probs, y).mean().item() for k, q in parts.items()},
        "ECE": {
            k: metrics.expected_calibration_error(q.probs, y, debiased=True)
            for k, q in parts.items()
        },
        "AUROC": {
            "entropy": metrics.ood_auroc(entropy, is_unknown),
            **(
                {"mutual information": metrics.ood_auroc(information, is_unknown)}
                if bool(information.any())
                else {}
            ),
        },
        # Half of these images cannot be named: the best there is refers them first.
        "referral": {
            f"{share:g}": metrics.selective_risk(entropy, loss=wrong, coverage=1 - share)
            for share in REFERRED
        },
    }


def measure(small: bool = False) -> Content:
    """Repeat everything over seeds, each with its own split, weights, batches and masks."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    n_test, names = 0, list(conditions(torch.zeros(1, 1, 8, 8), 0))
    for seed in track(range(2 if small else 8), "seeds"):
        predicted, y = predictions(seed, small)
        n_test = len(y)
        for method, p in predicted.items():
            for score, values in scores(p, y, names).items():
                for name, value in values.items():
                    column = found.setdefault(method, {}).setdefault(score, {})
                    column.setdefault(name, []).append(value)
    settings = {
        "train": N_TRAIN, "test": n_test, "unknown": n_test, "members": MEMBERS, "passes": PASSES,
        "recipes": {name: asdict(recipe) for name, recipe in RECIPES.items()},
    }  # fmt: skip
    return {"settings": settings, "scores": rounded(found)}


def told(content: Content) -> list[str]:
    """Means with standard errors over seeds; the page pairs them."""
    lines = []
    for method, found in content["scores"].items():
        bad = [v for name, v in found["NLL"].items() if name != "clean"]
        parts = {
            "NLL clean": found["NLL"]["clean"],
            "corrupted": [sum(seed) / len(bad) for seed in zip(*bad, strict=True)],
            "AUROC of unknown digits": found["AUROC"]["entropy"],
        }
        cells = ["{} {:.3f} ± {:.3f}".format(k, *mean_and_error(v)) for k, v in parts.items()]
        lines.append(f"{method}: {', '.join(cells)}")
    return lines


if __name__ == "__main__":
    main(measure, draw, told, __doc__)
