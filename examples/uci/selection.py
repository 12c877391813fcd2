"""Choose rate, noise and head of each split on its own training rows, then train on all of them.

A method here is given the training rows of the splits and nothing else. It holds part of them
out, trains every candidate on the rest, fits the noise of each candidate to the held-out
likelihood, and keeps the candidate whose held-out likelihood is best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from torch import nn

import mcdrop
from mcdrop import metrics
from uci.data import Table
from uci.methods import Fitted, Method, Run
from uci.scoring import DropoutPredictor
from uci.training import Job, Recipe, train_networks

__all__ = ["Plan", "gap_folds", "random_folds", "tuned_method"]

Integers = npt.NDArray[np.int64]
Folds = Callable[[Table, int], list[Integers]]

# Passes for a choice; the score of the test rows takes as many as the run says.
_PASSES = 200
# Factors between 1/5 and 20 on the predicted noise: it may be far off where rows are few.
_LOG_STRETCH = (np.log(0.2), np.log(20.0))
# Below so many rows one held-out part is too small to choose on.
_FEW_ROWS = 3000


@dataclass(frozen=True)
class Plan:
    """What to choose from.

    Attributes:
        folds: Makes the held-out parts of a table, given a seed.
        layers: Hidden layers, each as wide as the published one.
        rates: Dropout rates of hidden units; inputs are not dropped.
        heads: Whether the noise is predicted: False is one level for all rows.
        n_members: Networks trained on all rows with the choice; they predict as a mixture.
    """

    folds: Folds
    layers: int = 2
    rates: tuple[float, ...] = (0.01, 0.1)
    heads: tuple[bool, ...] = (False, True)
    n_members: int = 3


@dataclass(frozen=True)
class _Choice:
    """A candidate with its noise and its held-out log-likelihood, nats per row."""

    recipe: Recipe
    noise_std: float | None
    stretch: float
    log_likelihood: float


def random_folds(table: Table, seed: int) -> list[Integers]:
    """Return held-out rows: three thirds of a small table in turn, a fifth of a large one."""
    order = np.random.default_rng(seed).permutation(len(table))
    if len(table) < _FEW_ROWS:
        return np.array_split(order, 3)
    return [order[: len(table) // 5]]


def gap_folds(table: Table, seed: int) -> list[Integers]:
    """Return held-out rows like gaps: the middle third of the order of each of three features.

    The features are drawn among those that take at least three values.
    """
    random = np.random.default_rng(seed)
    varied = [j for j in range(table.X.shape[1]) if len(np.unique(table.X[:, j])) > 2]
    n, features = len(table), random.permutation(varied)[:3]
    orders = (np.argsort(table.X[:, j], kind="stable") for j in features)
    return [order[n // 3 : 2 * n // 3] for order in orders]


def tuned_method(plan: Plan) -> Method:
    """Return a method that chooses on held-out training rows, for each split anew."""

    def method(tables: Sequence[Table], run: Run) -> list[Fitted]:
        folds = [plan.folds(table, seed) for seed, table in enumerate(tables)]
        jobs = [
            Job(_rest(table, held), recipe, seed)
            for seed, (table, parts) in enumerate(zip(tables, folds, strict=True))
            for recipe in _candidates(plan, table, run)
            for held in parts
        ]
        networks = iter(train_networks(jobs, run.workers, run.advance, run.memory))
        choices = []
        for table, parts in zip(tables, folds, strict=True):
            found = [
                _judged(recipe, [(next(networks), table.rows(held)) for held in parts])
                for recipe in _candidates(plan, table, run)
            ]
            choices.append(max(found, key=lambda each: each.log_likelihood))
        return _retrained(plan, tables, choices, run)

    return method


def _candidates(plan: Plan, table: Table, run: Run) -> list[Recipe]:
    """Return every recipe to choose from, with as many steps for a table of any size."""
    hidden = (run.tuned.n_hidden,) * plan.layers
    steps = 5_000 if len(table) < _FEW_ROWS else 20_000
    epochs = run.epochs or max(40, round(steps * 32 / len(table)))
    return [
        Recipe(hidden, rate, 0.0, 1e-6, epochs, 32, 3e-3, cosine=True, heteroscedastic=head)
        for head in plan.heads
        for rate in plan.rates
    ]


def _rest(table: Table, held: Integers) -> Table:
    """Return the rows that are not held out."""
    return table.rows(np.setdiff1d(np.arange(len(table)), held))


def _judged(recipe: Recipe, parts: Sequence[tuple[nn.Module, Table]]) -> _Choice:
    """Fit the noise of a candidate to held-out rows, and say how likely these then are."""
    noise = None if recipe.heteroscedastic else 1.0
    found = [DropoutPredictor([network], _PASSES, noise)(held.X) for network, held in parts]
    y = torch.from_numpy(np.concatenate([held.y for _, held in parts]))
    means = torch.cat([_kept(each.samples) for each in found], dim=1)
    if not recipe.heteroscedastic:
        passes = mcdrop.RegressionPrediction.from_samples(means)
        level = float(mcdrop.fit_noise_std(passes, y))
        likelihood = -metrics.nll_mixture(means, torch.full_like(means, level), y)
        return _Choice(recipe, level, 1.0, float(likelihood.mean()))
    stds = torch.cat([_kept(each.sample_variances) for each in found], dim=1).sqrt()

    def loss(log_stretch: float) -> float:
        return float(metrics.nll_mixture(means, stds * np.exp(log_stretch), y).mean())

    best = minimize_scalar(loss, bounds=_LOG_STRETCH, method="bounded", options={"xatol": 0.01})
    return _Choice(recipe, None, float(np.exp(best.x)), -float(best.fun))


def _kept(passes: torch.Tensor | None) -> torch.Tensor:
    if passes is None:
        raise RuntimeError("passes were asked for and not kept")
    return passes


def _retrained(
    plan: Plan, tables: Sequence[Table], choices: Sequence[_Choice], run: Run
) -> list[Fitted]:
    """Train the members of every split on all of its training rows."""
    members = plan.n_members
    jobs = [
        Job(table, choice.recipe, 1000 * member + seed)
        for seed, (table, choice) in enumerate(zip(tables, choices, strict=True))
        for member in range(members)
    ]
    networks = train_networks(jobs, run.workers, run.advance, run.memory)
    return [
        Fitted(
            DropoutPredictor(
                networks[seed * members : (seed + 1) * members],
                run.n_samples,
                choice.noise_std,
                choice.stretch,
                seed,
            ),
            {
                "rate": choice.recipe.rate,
                "heteroscedastic": choice.recipe.heteroscedastic,
                "noise_std": choice.noise_std,
                "stretch": choice.stretch,
                "held_out_log_likelihood": choice.log_likelihood,
            },
        )
        for seed, choice in enumerate(choices)
    ]
