"""Methods that turn training rows into predictors. None of them is given a test row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import mcdrop
from mcdrop import baselines
from uci.data import Doubles, Table
from uci.published import Tuned
from uci.scoring import DropoutPredictor, Predictor
from uci.training import Job, Recipe, train_networks

__all__ = ["BASELINES", "Fitted", "Method", "Run", "dropout_off", "mc_dropout", "published_recipe"]


@dataclass(frozen=True)
class Run:
    """What a whole run has in common.

    Attributes:
        tuned: Published rate, precision and widths of the set.
        n_samples: Passes per test row.
        workers: Threads.
        epochs: Instead of the epochs of the method, for a trial; None keeps them.
        advance: Called after every network or split.
        memory: Networks of this set that another method has trained, by content of the job.
    """

    tuned: Tuned
    n_samples: int = 10_000
    workers: int = 2
    epochs: int | None = None
    advance: Callable[[], None] = lambda: None
    memory: dict[str, torch.nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A predictor and what was chosen for it on the training rows."""

    predictor: Predictor
    chosen: Mapping[str, Any] = field(default_factory=dict)


# The training rows of all splits in, a predictor for each out.
Method = Callable[[Sequence[Table], Run], list[Fitted]]


def published_recipe(tuned: Tuned, n_rows: int) -> Recipe:
    """Return the recipe of Table 1: one hidden layer, dropout on inputs and hidden units.

    The penalty is l^2 (1 - p) / (2 N tau) with tau in units of y, while the loss is the squared
    error of the standardized target, as in the code of the paper.
    """
    decay = tuned.length_scale**2 * (1 - tuned.rate) / (2 * n_rows * tuned.precision)
    return Recipe((tuned.n_hidden,), tuned.rate, tuned.rate, decay, tuned.epochs)


def mc_dropout(tables: Sequence[Table], run: Run) -> list[Fitted]:
    """Train and predict as published: Table 1 of Gal & Ghahramani (2016)."""
    noise = run.tuned.precision**-0.5
    networks = train_networks(_published_jobs(tables, run), run.workers, run.advance, run.memory)
    return [
        Fitted(DropoutPredictor([network], run.n_samples, noise, seed=seed))
        for seed, network in enumerate(networks)
    ]


def dropout_off(tables: Sequence[Table], run: Run) -> list[Fitted]:
    """Train the same networks, predict with dropout off: what the passes add to Table 1."""
    noise = run.tuned.precision**-0.5
    networks = train_networks(_published_jobs(tables, run), run.workers, run.advance, run.memory)

    def predictor(network: torch.nn.Module) -> Predictor:
        def predict(X: Doubles) -> mcdrop.RegressionPrediction:
            with torch.no_grad():
                mean = network(torch.tensor(X, dtype=torch.float32))
            return mcdrop.RegressionPrediction.from_mean_std(mean, noise)

        return predict

    return [Fitted(predictor(network)) for network in networks]


def _published_jobs(tables: Sequence[Table], run: Run) -> list[Job]:
    recipes = [published_recipe(run.tuned, len(table)) for table in tables]
    if run.epochs is not None:
        recipes = [replace(recipe, epochs=run.epochs) for recipe in recipes]
    return [Job(t, r, seed) for seed, (t, r) in enumerate(zip(tables, recipes, strict=True))]


def _baseline(build: Callable[[int, Run], Any]) -> Method:
    """Return a baseline of mcdrop as a method: its model is fitted to every split in turn."""

    def method(tables: Sequence[Table], run: Run) -> list[Fitted]:
        found = []
        for seed, table in enumerate(tables):
            model = build(seed, run).fit(table.X, table.y)
            found.append(Fitted(model.predict))
            run.advance()
        return found

    return method


def _training(run: Run, n_epochs: int) -> baselines.Training:
    return baselines.Training(max_epochs=run.epochs or n_epochs, batch_size=100)


# Epochs, batches and members of the networks as in Lakshminarayanan et al. (2017).
BASELINES: dict[str, Method] = {
    "ridge": _baseline(lambda seed, run: baselines.Ridge()),
    "bayesian_ridge": _baseline(lambda seed, run: baselines.BayesianRidge()),
    "gaussian_process": _baseline(lambda seed, run: baselines.GaussianProcess(random_state=seed)),
    "l2_network": _baseline(
        lambda seed, run: baselines.L2Network(
            (run.tuned.n_hidden,), training=_training(run, 40), random_state=seed
        )
    ),
    "deep_ensemble": _baseline(
        lambda seed, run: baselines.DeepEnsemble(
            (run.tuned.n_hidden,),
            task="heteroscedastic",
            weight_decay=1e-5,
            training=_training(run, 40),
            random_state=seed,
        )
    ),
}
