"""Per-layer rates: each dropout of a trained network takes its own, without retraining.

``mcdrop.wrap(net, p={"2": 0.1, "5": 0.5})`` overrides rates by the names that ``mc.sites(x)``
lists. A classifier of digits with two hidden layers, trained on 200 images without dropout, is too
sure of itself; its held-out likelihood under every pair of rates says what each layer can bear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gallery import GREY, INK, digits, label, main, panels, train
from matplotlib.figure import Figure
from torch import Tensor, nn

import mcdrop
from mcdrop import metrics

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
FIRST, SECOND = "2", "5"


@dataclass(frozen=True)
class Result:
    """Negative log-likelihood of held-out rows, (first rate, second rate)."""

    nll: Tensor

    @property
    def best(self) -> tuple[int, int]:
        """Places of the best pair."""
        place = int(self.nll.argmin())
        return place // len(RATES), place % len(RATES)

    @property
    def best_common(self) -> float:
        """The best likelihood with one rate for both."""
        return self.nll.diag().min().item()

    @property
    def lines(self) -> list[str]:
        """Likelihoods without dropout, with one rate, with two."""
        first, second = (RATES[i] for i in self.best)
        common = RATES[int(self.nll.diag().argmin())]
        return [
            f"held-out NLL: {self.nll[0, 0]:.3f} without dropout, {self.best_common:.3f} with "
            f"p = {common:g} in both layers, {self.nll.min():.3f} with {first:g} and {second:g}",
            f"with p = {RATES[-1]:g} in the first layer alone {self.nll[-1, 0]:.2f}, in the second "
            f"alone {self.nll[0, -1]:.2f}",
        ]


def measure(small: bool = False) -> Result:
    """Train once, then predict under every pair of rates."""
    X, y, X_test, y_test = digits(200)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.Dropout(0.0), nn.ReLU(), nn.Linear(128, 128),
        nn.Dropout(0.0), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    train(net, nn.CrossEntropyLoss(), X, y, steps=200 if small else 800, rate=3e-3, batch=50)
    n_rows = 100 if small else len(X_test)
    nll = torch.zeros(len(RATES), len(RATES))
    for i, first in enumerate(RATES):
        for j, second in enumerate(RATES):
            if first == second == 0:
                p = mcdrop.ClassificationPrediction.from_probs(net(X_test[:n_rows]).softmax(1))
            else:
                mc = mcdrop.wrap(net, p={FIRST: first, SECOND: second})
                p = mc.predict_with_uncertainty(
                    X_test[:n_rows], task="classification", n_samples=64, seed=0
                )
            nll[i, j] = metrics.nll_categorical(p.probs, y_test[:n_rows]).mean()
    return Result(nll)


def draw(found: Result) -> Figure:
    """The likelihood of every pair, the best one framed."""
    title = "Layers bear different rates: a high one costs more in the first than in the second"
    figure, ax = panels(title, size=(9, 4.6))
    nll = found.nll.numpy()
    ax.imshow(nll, cmap="Blues", origin="lower", aspect="auto", vmax=2 * nll[0, 0])
    for i in range(len(RATES)):
        for j in range(len(RATES)):
            dark = nll[i, j] > 1.4 * nll[0, 0]
            ax.text(
                j, i, f"{nll[i, j]:.2f}", ha="center", va="center", color="white" if dark else INK
            )
    i, j = found.best
    box = (
        [j - 0.5, j + 0.5, j + 0.5, j - 0.5, j - 0.5],
        [i - 0.5, i - 0.5, i + 0.5, i + 0.5, i - 0.5],
    )
    ax.plot(*box, color=INK, lw=2.5, clip_on=False)
    places = range(len(RATES))
    ax.set(xticks=places, xticklabels=RATES, xlabel="rate in the second layer")
    ax.set(yticks=places, yticklabels=RATES, ylabel="rate in the first layer")
    ax.set_title("negative log-likelihood of held-out digits (lower is better)", color=GREY)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    label(ax, 0, -0.3, "dropout off", GREY, ha="center", fontsize=9)
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
