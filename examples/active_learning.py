"""Label the digits that teach the network most, and compare with labeling at random.

A small dropout network starts from 20 labeled digits of scikit-learn's 1797. Each round it is
trained from scratch, then chooses 10 more digits to label. Every strategy sees the same splits,
first labels and initial weights, so that differences to random choice are paired. Run it with
`python examples/active_learning.py --out DIR`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from rich.progress import track
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import mcdrop
from mcdrop.acquisition import bald, batch_bald, max_entropy, top_k

START, BATCH, ROUNDS, REPETITIONS, PASSES = 20, 10, 8, 10, 100
Array = npt.NDArray[np.float64]
Choice = Callable[[mcdrop.ClassificationPrediction], Tensor]
STRATEGIES: dict[str, Choice | None] = {
    "random": None,
    "entropy": lambda pool: top_k(max_entropy(pool), BATCH),
    "BALD": lambda pool: top_k(bald(pool), BATCH),
    "BatchBALD": lambda pool: batch_bald(pool, BATCH, n_mc=2000).rows,
}


def train(X: Tensor, y: Tensor, epochs: int, seed: int) -> nn.Sequential:
    """A two-layer network with dropout, trained on all labeled rows at once."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    adam = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(epochs):
        adam.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        adam.step()
    return net.eval()


def accuracies(choose: Choice | None, repetition: int, rounds: int, epochs: int) -> list[float]:
    """Test accuracy before each round and after the last, on one split of the data."""
    data, target = load_digits(return_X_y=True)
    X, y = torch.tensor(data / 16 - 0.3, dtype=torch.float32), torch.tensor(target)
    pool, test = train_test_split(
        torch.arange(len(y)), test_size=0.4, random_state=repetition, stratify=y
    )  # shuffled, so that its first rows are random ones
    labeled, unlabeled = pool[:START], pool[START:]
    results = []
    for number in range(rounds + 1):
        seed = 1000 * repetition + number
        mc = mcdrop.wrap(train(X[labeled], y[labeled], epochs, seed), masks="shared")
        prediction = mc.predict_with_uncertainty(
            X, task="classification", n_samples=PASSES, seed=seed, keep_samples=True
        )
        results.append((prediction[test].labels == y[test]).double().mean().item())
        if number == rounds:
            break
        chosen = choose(prediction[unlabeled]) if choose else torch.arange(BATCH)
        rest = torch.ones(len(unlabeled), dtype=torch.bool)
        rest[chosen] = False
        labeled = torch.cat([labeled, unlabeled[chosen]])
        unlabeled = unlabeled[rest]
    return results


def summary(accuracy: Array, random: Array) -> dict[str, Any]:
    """Means over repetitions with standard errors, and paired differences with 95 % intervals."""
    # The last column is the mean over all rounds after the common start: one number per curve.
    accuracy, random = (np.column_stack([a, a[:, 1:].mean(axis=1)]) for a in (accuracy, random))
    gain = accuracy - random
    half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
    columns = {
        "accuracy": accuracy.mean(axis=0),
        "standard_error": stats.sem(accuracy),
        "minus_random": gain.mean(axis=0),
        "low": gain.mean(axis=0) - half,
        "high": gain.mean(axis=0) + half,
    }
    return {name: values.round(5).tolist() for name, values in columns.items()}


def table(labels: list[int], results: dict[str, dict[str, Any]]) -> str:
    """Markdown: accuracy ± standard error in %, difference to random [95 % interval]."""
    lines = ["| labels | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    keys = ("accuracy", "standard_error", "minus_random", "low", "high")
    for i, n in enumerate([*map(str, labels), "mean of rounds"]):
        cells = [n]
        for r in results.values():
            mean, error, gain, low, high = (100 * r[key][i] for key in keys)
            cells.append(f"{mean:.1f} ± {error:.1f}, {gain:+.1f} [{low:+.1f}, {high:+.1f}]")
        cells[1] = cells[1].split(",")[0]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(labels: list[int], results: dict[str, dict[str, Any]]) -> Figure:
    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots(subplot_kw={"xlabel": "labeled digits", "ylabel": "test accuracy"})
    for name, r in results.items():
        axes.errorbar(labels, r["accuracy"][:-1], r["standard_error"][:-1], label=name, capsize=2)
    axes.legend(frameon=False)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results")
    parser.add_argument("--epochs", type=int, default=200, help="below 10: also a shorter study")
    options = parser.parse_args()
    rounds, repetitions = min(ROUNDS, options.epochs), max(2, min(REPETITIONS, options.epochs))
    curves: dict[str, list[list[float]]] = {name: [] for name in STRATEGIES}
    for repetition in track(range(repetitions), "repetitions"):
        for name, choose in STRATEGIES.items():
            curves[name].append(accuracies(choose, repetition, rounds, options.epochs))
    random = np.array(curves["random"])
    results = {name: summary(np.array(curve), random) for name, curve in curves.items()}
    labels = [START + BATCH * number for number in range(rounds + 1)]
    record = {
        "command": f"python examples/active_learning.py --epochs {options.epochs}",
        "labels": labels, "repetitions": repetitions, "passes": PASSES,
        "last_column": "mean over rounds", "strategies": results,
        "accuracies": {n: np.round(c, 5).tolist() for n, c in curves.items()},
    }  # fmt: skip
    (options.out / "active_learning.json").write_text(json.dumps(record) + "\n")
    path = options.out / "active_learning.svg"
    figure(labels, results).savefig(path)
    print(table(labels, results))
    print(f"\nReport: {path.resolve()}")


if __name__ == "__main__":
    main()
