"""Checks of the parameters of an estimator; `fit` runs them, as scikit-learn asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from mcdrop.checks import (
    checked_positive,
    checked_rate,
    require_choice,
    require_count,
    require_flag,
    require_unit,
)
from mcdrop.errors import RangeError
from mcdrop.estimators.network import ACTIVATIONS

__all__ = ["check_options", "layer_sizes", "random_numbers"]


def check_options(function: str, estimator: Any) -> None:
    """Refuse the first parameter that lies outside of what it may be."""
    sizes = layer_sizes(estimator.hidden_layer_sizes)
    if not sizes:
        condition = "hold a layer to drop units of"
        raise RangeError.of(function, "hidden_layer_sizes", condition, "none", "Pass (64,)")
    for size in sizes:
        require_count(function, "hidden_layer_sizes", size)
    checked_rate(function, estimator.p)
    require_count(function, "n_members", estimator.n_members)
    require_count(function, "n_samples", estimator.n_samples, 2)
    require_choice(function, "activation", estimator.activation, tuple(ACTIVATIONS))
    require_unit(
        function,
        "validation_fraction",
        estimator.validation_fraction,
        remedy="Pass a share of rows such as 0.2",
    )
    require_count(function, "patience", estimator.patience)
    for name in ("batch_size", "max_epochs"):
        require_count(function, name, getattr(estimator, name), auto=True)
    for name in ("early_stopping", "heteroscedastic"):
        require_flag(function, name, getattr(estimator, name, False))
    checked_positive(function, "learning_rate", estimator.learning_rate)
    checked_positive(function, "weight_decay", estimator.weight_decay, zero=True)
    random_numbers(function, estimator.random_state)


def layer_sizes(sizes: Any) -> list[Any]:
    """Return the units of every hidden layer; one number stands for one layer."""
    return list(sizes) if isinstance(sizes, Sequence | np.ndarray) else [sizes]


def random_numbers(function: str, random_state: Any) -> np.random.RandomState:
    """Return the generator that scikit-learn makes of a seed, a RandomState or None."""
    try:
        return check_random_state(random_state)
    except (TypeError, ValueError) as error:
        condition = "be an integer from 0 to 2**32 - 1, a RandomState or None"
        raise RangeError.of(
            function, "random_state", condition, repr(random_state), "Pass 0"
        ) from error
