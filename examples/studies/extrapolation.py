"""Figure 2 of Gal & Ghahramani (2016): models far beyond the data they learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn

import mcdrop
from mcdrop import baselines
from studies.study import train

__all__ = ["Series", "extrapolated", "series"]

Doubles = npt.NDArray[np.float64]
# Mean and standard deviation.
Curve = tuple[Doubles, Doubles]
SERIES = Path(__file__).with_name("co2.csv")
BEGIN, END, FAR, RATE = 1966, 1974, 1994, 0.05


@dataclass(frozen=True)
class Series:
    """Months in years, (N,), and CO2 in parts per million, (N,)."""

    t: Doubles
    ppm: Doubles

    def between(self, begin: float, end: float) -> Series:
        """Return the months from `begin` to before `end`."""
        kept = (self.t >= begin) & (self.t < end)
        return Series(self.t[kept], self.ppm[kept])


def series() -> Series:
    """Read the monthly means; five months without a measurement are left out."""
    rows = [line.split(",") for line in SERIES.read_text().splitlines()[1:]]
    t = [int(month[:4]) + (int(month[5:]) - 0.5) / 12 for month, _ in rows]
    return Series(np.array(t), np.array([float(ppm) for _, ppm in rows]))


def deep(unit: Callable[[], nn.Module], scale: float, width: int = 128) -> nn.Sequential:
    """Three hidden layers whose first units turn at points spread over the data.

    With torch's first weights, 1 at most, the waves of eight years take far longer to learn.
    """
    first = nn.Linear(1, width)
    with torch.no_grad():
        first.weight.mul_(scale)
        first.bias.copy_(-first.weight[:, 0] * (4 * torch.rand(width) - 2))
    layers: list[nn.Module] = [first, unit()]
    for _ in range(2):
        layers += [nn.Dropout(RATE), nn.Linear(width, width), unit()]
    return nn.Sequential(*layers, nn.Dropout(RATE), nn.Linear(width, 1))


def curves(x: Tensor, y: Tensor, everywhere: Tensor, small: bool) -> dict[str, list[Curve]]:
    """Fit each model to (N, 1) inputs and values; return its curves, one for each seed."""
    gp = baselines.GaussianProcess(random_state=0).fit(x.numpy(), y[:, 0].numpy())
    found = {"Gaussian process": [_curve(gp.predict(everywhere.numpy()))]}
    for seed in track(range(1 if small else 3), "extrapolation"):
        for name, unit, scale in (("ReLU", nn.ReLU, 4.0), ("tanh", nn.Tanh, 5.0)):
            torch.manual_seed(seed)
            net = train(
                deep(unit, scale), nn.functional.mse_loss, x, y, steps=100 if small else 2000,
                rate=2e-3, seed=seed,
            )  # fmt: skip
            mc = mcdrop.wrap(net, masks="shared")
            passes = mc.predict_with_uncertainty(x, n_samples=200, keep_samples=True, seed=seed)
            noise = float(mcdrop.fit_noise_std(passes, y))
            p = mc.predict_with_uncertainty(everywhere, n_samples=1000, noise_std=noise, seed=seed)
            found.setdefault(f"MC dropout, {name}", []).append(_curve(p))
            if name == "ReLU":
                with torch.no_grad():
                    off = mcdrop.RegressionPrediction.from_point(net(everywhere))
                found.setdefault("dropout off", []).append(_curve(off))
    return found


def _curve(p: mcdrop.RegressionPrediction) -> Curve:
    return p.mean.flatten().numpy(), p.std.flatten().numpy()


def extrapolated(small: bool) -> dict[str, Any]:
    """Train on the detrended years `BEGIN` to `END`, and predict until `FAR`.

    Returns:
        Grid of times, data, means and standard deviations of each model for the first seed, all in
        parts per million, and the shares of the months after the data that bands of 2 standard
        deviations hold, for every seed.
    """
    data = series()
    known, beyond = data.between(BEGIN, END), data.between(END, FAR)
    grid = np.linspace(BEGIN - 1, FAR, 60 if small else 336)
    n, line = len(grid), np.polyfit(known.t, known.ppm, 1)

    def inputs(times: Doubles) -> Tensor:
        return torch.tensor((times - known.t.mean()) / known.t.std(), dtype=torch.float32)[:, None]

    values, truth = (part.ppm - np.polyval(line, part.t) for part in (known, beyond))
    size = values.std()
    y = torch.tensor(values / size, dtype=torch.float32)[:, None]
    found = curves(inputs(known.t), y, inputs(np.concatenate([grid, beyond.t])), small)
    return {
        "grid": grid.tolist(),
        "known": [known.t.tolist(), values.tolist()],
        "beyond": [beyond.t.tolist(), truth.tolist()],
        "curves": {k: [(part[:n] * size).tolist() for part in v[0]] for k, v in found.items()},
        "held": {
            name: [
                float((np.abs(truth - mean[n:] * size) <= 2 * std[n:] * size).mean())
                for mean, std in pairs
            ]
            for name, pairs in found.items()
            if name != "dropout off"
        },
    }
