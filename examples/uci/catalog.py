"""All methods by name, and the published column that each is held against."""

from __future__ import annotations

from dataclasses import dataclass

from uci.learned import concrete_method, second_moment_method
from uci.methods import BASELINES, Method, dropout_off, mc_dropout
from uci.selection import Plan, gap_folds, random_folds, tuned_method

__all__ = ["METHODS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A method of the tables.

    Attributes:
        method: Makes predictors of training rows.
        title: Name for a reader.
        column: Published column to compare with.
        n_samples: Passes per test row at most; 0 where there are none.
        max_rows: Sets with more training rows are left out.
    """

    method: Method
    title: str
    column: str = "table1"
    n_samples: int = 10_000
    max_rows: int | None = None


_TUNED = "strong_baselines_2018"
# With 10,000 instead, the log-likelihood of single splits of yacht and boston moves by up to 0.01,
# far less than methods differ by.
_FEWER = 1000
# All splits are trained side by side, which pays where they are small.
_SMALL = 3000

METHODS: dict[str, Entry] = {
    "mc_dropout": Entry(mc_dropout, "MC dropout of 2016"),
    "dropout_off": Entry(dropout_off, "dropout off", n_samples=0),
    "ridge": Entry(BASELINES["ridge"], "ridge", n_samples=0),
    "bayesian_ridge": Entry(BASELINES["bayesian_ridge"], "Bayesian ridge", n_samples=0),
    "gaussian_process": Entry(
        BASELINES["gaussian_process"], "Gaussian process", n_samples=0, max_rows=1000
    ),
    "l2_network": Entry(BASELINES["l2_network"], "L2 network", n_samples=0),
    "deep_ensemble": Entry(BASELINES["deep_ensemble"], "deep ensemble", n_samples=0),
    # One ingredient more from line to line.
    "tuned_one_layer": Entry(
        tuned_method(Plan(random_folds, layers=1, heads=(False,), n_members=1)),
        "MC dropout chosen per split, one hidden layer",
        _TUNED,
        _FEWER,
    ),
    "tuned_two_layers": Entry(
        tuned_method(Plan(random_folds, heads=(False,), n_members=1)),
        "MC dropout chosen per split, two hidden layers",
        _TUNED,
        _FEWER,
    ),
    "tuned_heads": Entry(
        tuned_method(Plan(random_folds, n_members=1)),
        "MC dropout chosen per split, noise predicted",
        _TUNED,
        _FEWER,
    ),
    "tuned": Entry(tuned_method(Plan(random_folds)), "MC dropout chosen per split", _TUNED, _FEWER),
    # In place of the choice of a rate, with two hidden layers, one level of noise, one network.
    "concrete": Entry(concrete_method, "MC dropout, rates learned", _TUNED, _FEWER, _SMALL),
    "second_moment": Entry(
        second_moment_method, "MC dropout, spread trained", _TUNED, _FEWER, _SMALL
    ),
    "tuned_gap": Entry(
        tuned_method(Plan(gap_folds)),
        "MC dropout chosen on gaps",
        _TUNED,
        _FEWER,
    ),
}
