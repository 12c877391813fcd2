"""Networks of the package train and predict alike whatever the caller has switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from mcdrop._modes import training_modes
from mcdrop.baselines import DeepEnsemble, DropoutNetwork, L2Network, Training
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.abs(X[:, 0])
LABELS = (X[:, 0] > 0).astype(int)
OPTIONS: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "n_members": 2,
    "max_epochs": 3,
    "random_state": 0,
    "n_samples": 8,
}
NETWORK: dict[str, Any] = {"weight_decay": 1e-3, "training": Training(max_epochs=2)}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# The meta device stands for any that is not the CPU: a tensor made there cannot be mixed with ours.
SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "double by default": lambda: default_dtype(torch.float64),
    "half by default": lambda: default_dtype(torch.bfloat16),
}
MODELS: dict[str, Callable[[], Any]] = {
    "regressor": lambda: MCDropoutRegressor(**OPTIONS).fit(X, Y),
    "heteroscedastic": lambda: MCDropoutRegressor(heteroscedastic=True, **OPTIONS).fit(X, Y),
    "partial": lambda: MCDropoutRegressor(**OPTIONS).partial_fit(X, Y).partial_fit(X, Y),
    "classifier": lambda: MCDropoutClassifier(**OPTIONS).fit(X, LABELS),
    "L2": lambda: L2Network(8, **NETWORK).fit(X, Y),
    "ensemble": lambda: DeepEnsemble(8, n_members=2, **NETWORK).fit(X, Y),
    "dropout": lambda: DropoutNetwork(8, p=0.2, n_samples=8, **NETWORK).fit(X, Y),
    "classes": lambda: L2Network(8, task="classification", **NETWORK).fit(X, LABELS),
}


def predicted(model: Any) -> Any:
    known = getattr(model, "predict_with_uncertainty", None) or model.predict
    prediction = known(X)
    return prediction.probs if hasattr(prediction, "probs") else prediction.mean


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return {name: predicted(train()) for name, train in MODELS.items()}


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("name", MODELS)
def test_networks_train_alike_in_every_mode(
    name: str, around: str, expected: dict[str, Any]
) -> None:
    with SURROUNDINGS[around]():
        model = MODELS[name]()
    assert torch.equal(predicted(model), expected[name])


@pytest.mark.parametrize("name", MODELS)
def test_networks_predict_under_another_default_device(name: str, expected: dict[str, Any]) -> None:
    model = MODELS[name]()
    with torch.device("meta"):
        found = predicted(model)
    assert torch.equal(found, expected[name])


def test_the_modes_of_the_caller_are_put_back() -> None:
    with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu"):
        with training_modes():
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
            assert torch.zeros(1).device.type == "cpu"
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.zeros(1).is_meta
