"""The methods that are compared, and how each is fitted and asked."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from sklearn.pipeline import Pipeline
from torch import nn

from mcdrop.baselines import (
    BayesianRidge,
    DeepEnsemble,
    DropoutNetwork,
    GaussianProcess,
    L2Network,
    LogisticL2,
    Ridge,
    Training,
)
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.given import given_mean, given_probs

__all__ = ["CompareTask", "checked_methods", "default_methods", "fitted_prediction"]

FUNCTION = "compare"
CompareTask = Literal["regression", "classification"]

# The Gaussian process is cubic in the rows: seconds up to here.
_SMALL = 1000


def default_methods(task: CompareTask, n_rows: int, random_state: int) -> dict[str, Any]:
    """Return MC dropout, the linear models and the networks without dropout for a table."""
    networks: dict[str, Any] = {
        "MC dropout": DropoutNetwork(task=task, random_state=random_state),
        "L2 network": L2Network(task=task, random_state=random_state),
        "Deep ensemble": DeepEnsemble(task=task, random_state=random_state),
    }
    if task == "classification":
        return networks | {"Logistic L2": LogisticL2()}
    linear: dict[str, Any] = {"Ridge": Ridge(), "Bayesian ridge": BayesianRidge()}
    if n_rows <= _SMALL:
        linear["Gaussian process"] = GaussianProcess(random_state=random_state)
    return networks | linear


def checked_methods(methods: Any) -> dict[str, Any]:
    """Return methods by name; objects in a list are named by their class."""
    if isinstance(methods, Mapping):
        named = dict(methods)
    elif isinstance(methods, Sequence) and not isinstance(methods, str):
        named = {type(method).__name__: method for method in methods}
        if len(named) != len(methods):
            raise RangeError.of(
                FUNCTION,
                "methods",
                "have names that differ",
                "two objects of one class",
                'Pass a dict: {"small": ..., "large": ...}',
            )
    else:
        named = {}
    if not named:
        raise UnsupportedError.of(
            FUNCTION,
            "methods",
            "be a dict of methods by name, or a list of them",
            repr(methods) if methods is not None else "None",
            'Pass {"Ridge": Ridge()}, or leave it out',
        )
    for name, method in named.items():
        fits = hasattr(method, "fit") and (
            hasattr(method, "predict") or hasattr(method, "predict_proba")
        )
        # A network is callable, but not as a function of the training rows.
        is_function = callable(method) and not isinstance(method, type | nn.Module)
        if isinstance(method, type) or not (fits or is_function):
            raise UnsupportedError.of(
                FUNCTION,
                f'methods["{name}"]',
                "have fit and predict, or be a function (X_train, y_train, X_test)",
                f"the class {method.__name__}"
                if isinstance(method, type)
                else type(method).__name__,
                _remedy(method),
            )
    return {str(name): method for name, method in named.items()}


def _remedy(method: object) -> str:
    if isinstance(method, nn.Module):
        return "Pass Deterministic(net) for a trained network, or DropoutNetwork() to train one"
    return "Pass an object with fit(X, y) and predict(X)"


def fitted_prediction(
    name: str,
    method: Any,
    task: CompareTask,
    train: tuple[Any, Any],
    X_test: Any,
    *,
    quiet: bool = False,
) -> tuple[Prediction, float]:
    """Fit a copy of a method, predict, and measure the wall time of both, in seconds.

    Args:
        name: Of the method, for errors.
        method: An object with fit and predict, or a function.
        task: What it predicts.
        train: Features and targets.
        X_test: Features of the rows to predict.
        quiet: Whether a bar is shown already, beside which the method must not show its own.
    """
    start = time.perf_counter()
    if hasattr(method, "fit"):
        model = copy.deepcopy(method)
        if quiet and isinstance(getattr(model, "training", None), Training):
            model.training = replace(model.training, progress=False)
        # Some fit in place and return nothing.
        model.fit(*train)
        answer = _asked(model, task)(X_test)
    else:
        answer = method(*train, X_test)
    seconds = time.perf_counter() - start
    return _as_prediction(name, answer, task, len(X_test)), seconds


def _asked(model: Any, task: CompareTask) -> Callable[[Any], Any]:
    """Return the method that says most about the rows."""
    if hasattr(model, "predict_with_uncertainty"):
        return model.predict_with_uncertainty
    if isinstance(model, Pipeline) and hasattr(model[-1], "predict_with_uncertainty"):
        return lambda X: model[-1].predict_with_uncertainty(model[:-1].transform(X))
    by_class = task == "classification" and hasattr(model, "predict_proba")
    return model.predict_proba if by_class else model.predict


def _as_prediction(name: str, answer: Any, task: CompareTask, n_rows: int) -> Prediction:
    """Return a prediction of the task; a bare array is a point forecast or probabilities."""
    argument = f'methods["{name}"]'
    wanted = RegressionPrediction if task == "regression" else ClassificationPrediction
    if not isinstance(answer, Prediction):
        if task == "classification":
            answer = ClassificationPrediction.from_probs(given_probs(FUNCTION, argument, answer))
        else:
            answer = RegressionPrediction.from_point(given_mean(FUNCTION, argument, answer))
    if not isinstance(answer, wanted) or len(answer) != n_rows:
        raise UnsupportedError.of(
            FUNCTION,
            argument,
            f"return a {wanted.__name__} or an array for the {n_rows} rows of X_test",
            f"{type(answer).__name__} of {len(answer)} rows",
            "Check its task, and that it predicts the rows it is asked for",
        )
    return answer
