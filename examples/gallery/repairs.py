"""What recalibration and ensembles bring where MC dropout fails.

Two clusters of data with a gap between them, and nothing outside, for smooth functions drawn at
random. The passes alone describe the mean, so that their intervals hold too few targets.
Recalibration on held-out rows puts right what such rows show, and they show nothing of the gap;
neither do five networks that all bridge it in the same way. Shares of new targets in their 90 %
intervals, over the functions, beside a Gaussian process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gallery import BLUE, GREEN, GREY, INK, ORANGE, label, main, panels
from in_between import CLUSTERS, NOISE
from matplotlib.figure import Figure
from torch import Tensor

from mcdrop import RegressionPrediction
from mcdrop.baselines import DeepEnsemble, DropoutNetwork, GaussianProcess, Training
from mcdrop.recalibration import StdScaling

LEVEL = 0.9
REGIONS = {"among the data": None, "in the gap": (-0.6, 0.4), "outside": (1.2, 1.7)}


@dataclass(frozen=True)
class Result:
    """Share of targets in their intervals by method and region, and its standard error."""

    coverage: dict[str, dict[str, float]]
    errors: dict[str, dict[str, float]]

    @property
    def lines(self) -> list[str]:
        """Coverage of each method in each region."""
        return [
            f"{method}: "
            + ", ".join(
                f"{100 * share:.0f} ± {100 * self.errors[method][region]:.0f} % {region}"
                for region, share in shares.items()
            )
            for method, shares in self.coverage.items()
        ]


def clusters(n: int, draw: torch.Generator) -> Tensor:
    """Return n points in the two clusters."""
    low, high = torch.tensor(CLUSTERS, dtype=torch.float64).T
    side = torch.randint(2, (n,), generator=draw)
    return low[side] + (high - low)[side] * torch.rand(n, generator=draw, dtype=torch.float64)


def drawn_function(draw: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return a draw of a Gaussian process of length scale 0.4, as 100 random waves."""
    slopes, heights = torch.randn(2, 100, generator=draw, dtype=torch.float64)
    starts = 2 * torch.pi * torch.rand(100, generator=draw, dtype=torch.float64)
    return lambda x: (
        (heights * torch.cos(x[:, None] * slopes / 0.4 + starts)).sum(dim=1) * 0.02**0.5
    )


def noisy(values: Tensor, draw: torch.Generator) -> Tensor:
    """Return values with observation noise."""
    return values + NOISE * torch.randn(len(values), generator=draw, dtype=torch.float64)


def methods(small: bool, seed: int) -> list[Any]:
    """Return what is compared: MC dropout, an ensemble of five networks, a Gaussian process."""
    training = Training(max_epochs=5 if small else 150)
    common: Any = {"weight_decay": [1e-5, 1e-4], "training": training, "random_state": seed}
    return [
        DropoutNetwork((50, 50), p=0.1, **common),
        DeepEnsemble((50, 50), **common),
        GaussianProcess(random_state=seed),
    ]


def measure(small: bool = False) -> Result:
    """Fit, recalibrate and count, over several draws of the data."""
    repeats = 2 if small else 6
    held: dict[str, dict[str, list[float]]] = {}
    for seed in range(repeats):
        draw = torch.Generator().manual_seed(seed)
        truth = drawn_function(draw)
        x, spare = clusters(100, draw), clusters(100, draw)
        y, y_spare = noisy(truth(x), draw), noisy(truth(spare), draw)
        new = {
            region: clusters(500, draw) if ends is None else torch.linspace(*ends, 500).double()
            for region, ends in REGIONS.items()
        }
        y_new = {region: noisy(truth(x), draw) for region, x in new.items()}

        def count(
            name: str, predict: Callable[[Tensor], Any], new: Any = new, y: Any = y_new
        ) -> None:
            for region, x in new.items():
                low, high = predict(x[:, None]).interval(LEVEL)
                inside = ((y[region] >= low) & (y[region] <= high)).double().mean().item()
                held.setdefault(name, {}).setdefault(region, []).append(inside)

        dropout, ensemble, process = (m.fit(x[:, None], y) for m in methods(small, seed))

        def passes_alone(x: Tensor, method: Any = dropout) -> RegressionPrediction:
            p = method.predict(x)
            return RegressionPrediction.from_mean_std(p.mean, p.epistemic_std)

        scaling = StdScaling().fit(passes_alone(spare[:, None]), y_spare)
        count("passes alone", passes_alone)

        def recalibrated(x: Tensor, scale: Any = scaling, method: Any = passes_alone) -> Any:
            return scale(method(x))

        count("passes, recalibrated", recalibrated)
        count("deep ensemble", ensemble.predict)
        count("Gaussian process", process.predict)
    mean = {m: {r: sum(v) / repeats for r, v in regions.items()} for m, regions in held.items()}
    errors = {
        m: {r: (torch.tensor(v).std() / repeats**0.5).item() for r, v in regions.items()}
        for m, regions in held.items()
    }
    return Result(mean, errors)


def draw(found: Result) -> Figure:
    """Coverage by method, one panel per region."""
    title = "Recalibration mends intervals where there are data, not where there are none"
    figure, axes = panels(title, 3, size=(9, 3.4))
    colors = (ORANGE, GREEN, BLUE, INK)
    for ax, region in zip(axes, REGIONS, strict=True):
        ax.axvline(100 * LEVEL, color=GREY, ls="--", lw=1)
        for i, (method, shares) in enumerate(found.coverage.items()):
            value, error = 100 * shares[region], 200 * found.errors[method][region]
            ax.errorbar(value, -i, xerr=error, fmt="o", color=colors[i], capsize=3, ms=8)
        ax.set(title=region, xlim=(-3, 103), ylim=(-3.5, 0.9), yticks=[])
        ax.set_xlabel("targets in 90 % intervals, %")
        ax.spines["left"].set_visible(False)
    axes[0].set(yticks=[-i for i in range(4)])
    names = axes[0].set_yticklabels([name.replace(", ", ",\n") for name in found.coverage])
    for text, color in zip(names, colors, strict=True):
        text.set(color=color, fontweight="bold")
    label(axes[0], 88, 0.65, "stated", GREY, ha="right")
    return figure


if __name__ == "__main__":
    main(measure, draw, __doc__)
