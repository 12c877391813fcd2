"""Every parameter of an estimator is checked by `fit`, by name."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from torch import nn

import mcdrop
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor
from mcdrop.estimators.options import check_options, layer_sizes, random_numbers

X, Y = np.eye(8, 2), np.arange(8) % 2
POSITIVE = "be a finite number above 0"
NEVER: list[Any] = [math.nan, "fast", None, [], {}, object(), np.zeros(2)]
# What each parameter has to be, and what it may not be.
WRONG: dict[str, tuple[str, list[Any]]] = {
    "hidden_layer_sizes": ("be an integer of at least 1", [(0,), (2.5,), "64", None, ((8, 8),)]),
    "p": (r"lie in \[0, 1\)", [1.0, -0.1, True, *NEVER]),
    "n_members": ("be an integer of at least 1", [0, 2.0, True, *NEVER]),
    "n_samples": ("be an integer of at least 2", [1, "auto", *NEVER]),
    "activation": ('be one of "relu", "silu", "tanh"', ["gelu", nn.ReLU(), *NEVER]),
    "batch_size": ('be an integer of at least 1, or "auto"', [0, -1, "all", 1.5, *NEVER]),
    "max_epochs": ('be an integer of at least 1, or "auto"', [0, -1, "all", 1.5, *NEVER]),
    "learning_rate": (POSITIVE, [0, 0.0, -1e-3, math.inf, True, *NEVER]),
    "weight_decay": ("be a finite number of at least 0", [-1e-3, math.inf, *NEVER]),
    "early_stopping": ("be True or False", ["no", 1, *NEVER]),
    "heteroscedastic": ("be True or False", ["no", 1, *NEVER]),
    "validation_fraction": (r"lie in \(0, 1\)", [0, 1, 1.5, *NEVER]),
    "patience": ("be an integer of at least 1", [0, 2.5, *NEVER]),
    "random_state": (
        r"be an integer from 0 to 2\*\*32 - 1, a RandomState or None",
        [-1, 2**32, 0.5, "x", np.random.default_rng(0), math.nan, {}, object()],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_does_not_fit_is_refused_by_fit(name: str) -> None:
    condition, values = WRONG[name]
    for value in values:
        with pytest.raises(mcdrop.RangeError, match=f"`{name}` to {condition}, but got"):
            MCDropoutRegressor(**{name: value}).fit(X, Y)


@pytest.mark.parametrize("kind", [MCDropoutRegressor, MCDropoutClassifier])
def test_no_parameter_goes_unchecked(kind: Any) -> None:
    assert set(inspect.signature(kind).parameters) <= set(WRONG)


def test_the_method_that_was_called_is_named() -> None:
    net = nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 2))
    with pytest.raises(mcdrop.RangeError, match=r"^MCDropoutClassifier\.partial_fit: expected `p`"):
        MCDropoutClassifier(p=1).partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(mcdrop.RangeError, match=r"^MCDropoutClassifier\.from_module: expected `p`"):
        MCDropoutClassifier.from_module(net, classes=[0, 1], p=1)
    fitted = MCDropoutClassifier.from_module(net, classes=[0, 1])
    with pytest.raises(mcdrop.RangeError, match=r"sample_proba: expected `n_samples` to be an int"):
        fitted.sample_proba(X, 0)
    with pytest.raises(mcdrop.RangeError, match=r"sample_proba: expected `random_state` to be an"):
        fitted.sample_proba(X, 1, random_state="x")
    means = MCDropoutRegressor.from_module(nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 1)))
    with pytest.raises(mcdrop.RangeError, match=r"sample_y: expected `n_samples` to be an integer"):
        means.sample_y(X, 1.5)  # type: ignore[arg-type]


def test_an_empty_list_of_layers_has_nothing_to_drop() -> None:
    with pytest.raises(
        mcdrop.RangeError, match="`hidden_layer_sizes` to hold a layer to drop unit"
    ):
        check_options("fit", MCDropoutRegressor(()))
    assert layer_sizes(8) == layer_sizes([8]) == layer_sizes(np.array([8])) == [8]


def test_a_generator_is_used_as_it_is() -> None:
    state = np.random.RandomState(0)
    assert random_numbers("fit", state) is state
