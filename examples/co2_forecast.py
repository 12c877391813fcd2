"""CO2 at Mauna Loa: four models left of the data's end and far beyond it, and a band for a path.

First the picture of Gal & Ghahramani (2016, figure 2): networks trained on eight years, extended by
twenty, with dropout off, with MC dropout of ReLU and of tanh units, beside a Gaussian process. Then
forecasts of single years, each from the ten years before it: how often a band of 95 % holds a
month, and how often it holds all twelve. With shared masks each pass is one path, so that a band
can be made for whole paths. `python examples/co2_forecast.py --out FOLDER` takes about two minutes.

The series is `co2` of statsmodels, monthly means of its weekly values: Keeling & Whorf (2004).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge
from studies.bands import Band, pathwise, pointwise, stretched
from studies.co2_picture import draw
from studies.extrapolation import Series, extrapolated, series
from studies.study import Content, main, mean_and_error, rounded
from torch import Tensor, nn

import mcdrop
from mcdrop.baselines.stacked import Member, Training, train_stacked

Doubles = npt.NDArray[np.float64]
# Paths (S, 12) of each year, by method.
Paths = dict[str, list[Doubles]]
YEARS = range(1968, 2001)
LEVEL, RATE, PASSES = 0.95, 0.1, 2000


@dataclass(frozen=True)
class Block:
    """One year to forecast, and the ten before it; values are standardized by these.

    Attributes:
        X, y: Features (N, 5) and values (N,) of the ten years.
        X_year, y_year: Of the year.
        size: Parts per million per unit of y.
    """

    X: Doubles
    y: Doubles
    X_year: Doubles
    y_year: Doubles
    size: float


def block(data: Series, year: int) -> Block:
    """Cut out a year and the ten before it."""

    def features(t: Doubles) -> Doubles:
        waves = [f(2 * np.pi * k * t) for k in (1, 2) for f in (np.sin, np.cos)]
        return np.column_stack([(t - year) / 5 + 1, *waves])

    past, future = data.between(year - 10, year), data.between(year, year + 1)
    mean, size = past.ppm.mean(), past.ppm.std()
    return Block(
        features(past.t), (past.ppm - mean) / size, features(future.t), (future.ppm - mean) / size,
        float(size),
    )  # fmt: skip


def networks(blocks: Sequence[Block], seed: int, small: bool) -> list[nn.Module]:
    """Train a network per block, all of them in the same steps."""
    ends = np.cumsum([0, *[len(each.y) for each in blocks]])
    members = [
        Member(torch.arange(begin, end), RATE, 1e-5, seed=1000 * seed + i)
        for i, (begin, end) in enumerate(pairwise(ends.tolist()))
    ]
    return train_stacked(
        "co2_forecast",
        lambda: nn.Sequential(
            nn.Linear(5, 64), nn.ReLU(), nn.Dropout(RATE),
            nn.Linear(64, 64), nn.ReLU(), nn.Dropout(RATE), nn.Linear(64, 1), nn.Flatten(0),
        ),
        _tensor(np.concatenate([each.X for each in blocks])),
        _tensor(np.concatenate([each.y for each in blocks])),
        members,
        lambda outputs, y: (outputs - y).square().mean(dim=1),
        Training(max_epochs=20 if small else 200, batch_size=40, learning_rate=5e-3),
    )  # fmt: skip


def _tensor(values: Doubles) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def dropout_paths(blocks: Sequence[Block], seed: int, small: bool) -> Paths:
    """Draw paths: each pass with the same masks in all months, plus noise fitted to the past."""
    random, n = np.random.default_rng(seed), 200 if small else PASSES
    found: Paths = {"MC dropout": [], "dropout off": []}
    for net, each in zip(networks(blocks, seed, small), blocks, strict=True):
        mc = mcdrop.wrap(net, masks="shared")
        X, y, X_year = _tensor(each.X), torch.tensor(each.y), _tensor(each.X_year)
        past = mc.predict_with_uncertainty(X, n_samples=200, keep_samples=True, seed=seed)
        paths = mc.sample(X_year, n_samples=n, seed=seed).double().numpy()
        noise = random.normal(size=paths.shape)
        found["MC dropout"].append(paths + float(mcdrop.fit_noise_std(past, y)) * noise)
        with torch.no_grad():
            error, center = float((net(X) - y).square().mean().sqrt()), net(X_year).double()
        found["dropout off"].append(center.numpy() + error * noise)
    return found


def linear_paths(blocks: Sequence[Block], seed: int, small: bool) -> Paths:
    """Draw paths from Bayesian regression on trend and seasons."""
    random, n, found = np.random.default_rng(seed), 200 if small else PASSES, []
    for each in blocks:
        model = BayesianRidge().fit(each.X, each.y)
        center, noise = each.X.mean(axis=0), model.alpha_**-0.5
        slopes = random.multivariate_normal(model.coef_, model.sigma_, n)
        level = each.y.mean() + noise / len(each.y) ** 0.5 * random.normal(size=(n, 1))
        paths = level + slopes @ (each.X_year - center).T
        found.append(paths + noise * random.normal(size=paths.shape))
    return {"linear regression": found}


def process_paths(blocks: Sequence[Block], seed: int, small: bool) -> Paths:
    """Draw paths from a Gaussian process over the same features."""
    n, found = 200 if small else PASSES, []
    for each in blocks:
        kernel = ConstantKernel(1.0) * RBF(np.ones(5), (0.1, 1e4)) + WhiteKernel(0.01)
        with warnings.catch_warnings():
            # A length scale at its upper end: the feature does not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = GaussianProcessRegressor(kernel, random_state=seed).fit(each.X, each.y)
        found.append(model.sample_y(each.X_year, n, random_state=seed).T)
    return {"Gaussian process": found}


# What draws paths, and how many seeds it is repeated with.
METHODS = ((dropout_paths, 2), (process_paths, 1), (linear_paths, 1))


def forecasts(small: bool) -> dict[str, Any]:
    """Forecast every year by every method, and note which bands hold it."""
    data = series()
    years = YEARS[-4:] if small else YEARS
    blocks = [block(data, year) for year in years]
    shown: dict[str, Any] = {}
    runs: dict[str, list[dict[str, list[float]]]] = {}
    for paths_of, n_seeds in track(METHODS, "forecasts"):
        for seed in range(1 if small else n_seeds):
            for name, paths in paths_of(blocks, seed, small).items():
                runs.setdefault(name, []).append(_held(paths, blocks))
                if name == "MC dropout" and seed == 0:
                    shown = _shown(paths[-1], blocks[-1], years[-1])
    average = {
        name: {key: np.mean([run[key] for run in each], axis=0).tolist() for key in each[0]}
        for name, each in runs.items()
    }
    return {"years": list(years), "held": average, "shown": shown}


def _held(paths: Sequence[Doubles], blocks: Sequence[Block]) -> dict[str, list[float]]:
    """Return, year by year, what the bands hold and how wide they are, in parts per million.

    The stretched band needs years before it: its lists are shorter and end with the same year.
    """
    truths = [each.y_year for each in blocks]
    wide = [pathwise(each, LEVEL) for each in paths]
    bands: dict[str, Sequence[Band | None]] = {
        "pointwise": [pointwise(each, LEVEL) for each in paths],
        "pathwise": wide,
        "stretched": stretched(wide, truths, LEVEL),
    }
    found: dict[str, list[float]] = {}
    for name, each in bands.items():
        kept = [(b, y, x.size) for b, y, x in zip(each, truths, blocks, strict=True) if b]
        if kept:
            found[f"{name}, months"] = [b.share(y) for b, y, _ in kept]
            found[f"{name}, years"] = [float(b.holds(y)) for b, y, _ in kept]
            found[f"{name}, width"] = [b.width * size for b, _, size in kept]
    return found


def _shown(paths: Doubles, each: Block, year: int) -> dict[str, Any]:
    """Return one year for the picture, less what the ten years before it had on average."""
    narrow, wide = pointwise(paths, LEVEL), pathwise(paths, LEVEL)
    return {
        "year": year,
        "truth": (each.y_year * each.size).tolist(),
        "paths": (paths[:6] * each.size).tolist(),
        **{
            name: [(b.lower * each.size).tolist(), (b.upper * each.size).tolist()]
            for name, b in (("pointwise", narrow), ("pathwise", wide))
        },
    }


def measure(small: bool = False) -> Content:
    """Make both studies."""
    settings = {"level": LEVEL, "passes": PASSES, "rate": RATE}
    return {
        "settings": settings,
        "extrapolation": rounded(extrapolated(small), 3),
        "forecasts": rounded(forecasts(small), 4),
    }


def told(content: Content) -> list[str]:
    """Say what the bands hold."""
    lines = [
        "{}: {:.0f} ± {:.0f} % of the months after the data within 2 standard deviations".format(
            name, *(100 * each for each in mean_and_error(shares))
        )
        for name, shares in content["extrapolation"]["held"].items()
    ]
    for name, held in content["forecasts"]["held"].items():
        parts = [
            "{} {:.2f} ± {:.2f}".format(key, *mean_and_error(values))
            for key, values in held.items()
        ]
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


if __name__ == "__main__":
    main(measure, draw, told, __doc__)
