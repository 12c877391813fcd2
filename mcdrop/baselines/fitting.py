"""From a table to trained networks: standardize, choose on validation rows, train on all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mcdrop.baselines.network_parts import (
    cross_entropy,
    half_squared_error,
    normal_loss,
    perceptron,
)
from mcdrop.baselines.stacked import Member, Training, train_stacked
from mcdrop.baselines.standardized import InUnitsOfData, Table, standardized_table
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction, fit_noise_std

__all__ = [
    "AnyPrediction",
    "Choice",
    "Fitted",
    "Network",
    "NetworkTask",
    "Plan",
    "checked_network",
    "fit_networks",
]

NetworkTask = Literal["regression", "heteroscedastic", "classification"]
Network: TypeAlias = Sequence[int] | Callable[[int, int], nn.Module]
AnyPrediction: TypeAlias = RegressionPrediction | ClassificationPrediction


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes:
        function: Public function to name in errors.
        network: Hidden widths, or a function that builds a network.
        task: What the network predicts.
        rates: Dropout rates to choose from.
        weight_decays: Penalties to choose from.
        n_members: Networks per choice.
        training: Epochs, batches, learning rate, validation share.
        seed: Of the first network; the others count on.
    """

    function: str
    network: Network
    task: NetworkTask
    rates: Sequence[float]
    weight_decays: Sequence[float]
    n_members: int
    training: Training
    seed: int

    @property
    def candidates(self) -> list[tuple[float, float]]:
        """All pairs of a rate and a penalty."""
        return list(product(self.rates, self.weight_decays))


@dataclass(frozen=True)
class Choice:
    """A rate and a penalty with their score on the validation rows.

    Attributes:
        p: Dropout rate.
        weight_decay: lambda of the penalty lambda |W|^2.
        nll: Mean negative log-likelihood of the validation rows, nats; for regression at the
            noise that suits the candidate best. NaN where there was nothing to choose from.
    """

    p: float
    weight_decay: float
    nll: float


@dataclass(frozen=True)
class Fitted:
    """Trained networks in units of the data.

    Attributes:
        networks: Each takes features (N, D) in their own units and returns means in units of y
            (and log variances, for "heteroscedastic"), or logits.
        noise_std: Observation noise of a regression, one per output, or None.
        target_shape: Shape of one target.
        n_features: Number of features, D.
        choices: Every candidate with its score.
        chosen: The one with the best score.
    """

    networks: tuple[nn.Module, ...]
    noise_std: Tensor | None
    target_shape: tuple[int, ...]
    n_features: int
    choices: tuple[Choice, ...]
    chosen: Choice


# How a baseline predicts: networks, their plan and features to a prediction.
Predict = Callable[[Fitted, Tensor], AnyPrediction]


def fit_networks(plan: Plan, X: Any, y: Any, predict: Predict) -> Fitted:
    """Train every candidate on a part of the rows, and the best of them on all rows.

    Args:
        plan: What to train.
        X: Features, (N, D).
        y: Targets (N,) or (N, K), or labels (N,).
        predict: Makes the prediction that the candidates are scored by, from networks and
            features; a regression without noise.

    Returns:
        The trained networks.

    Raises:
        ShapeError: If the rows of `X` and `y` do not match.
        NonFiniteError: If a value is NaN or infinite.
        RangeError: If there are too few rows, or labels are no class indices.
    """
    table = standardized_table(plan.function, plan.task, X, y)
    train, held_out = _split(plan, len(table.X))
    candidates = plan.candidates
    needs_noise = plan.task == "regression"
    choices: list[tuple[Choice, Tensor | None]]
    if len(candidates) == 1 and not needs_noise:
        choices = [(Choice(*candidates[0], math.nan), None)]
    else:
        networks = _trained(plan, table, train, candidates)
        choices = [
            _scored(plan, table, networks[i], held_out, pair, predict)
            for i, pair in enumerate(candidates)
        ]
    best, noise = min(choices, key=lambda choice: choice[0].nll)
    pair = (best.p, best.weight_decay)
    (final,) = _trained(plan, table, torch.arange(len(table.X)), [pair])
    return _fitted(table, final, noise, [choice for choice, _ in choices], best)


def _fitted(
    table: Table,
    networks: Sequence[nn.Module],
    noise: Tensor | None,
    choices: Sequence[Choice],
    chosen: Choice,
) -> Fitted:
    whole = tuple(InUnitsOfData(network, table).eval() for network in networks)
    width = table.features.shape[1]
    return Fitted(whole, noise, table.target_shape, width, tuple(choices), chosen)


def _trained(
    plan: Plan, table: Table, rows: Tensor, pairs: Sequence[tuple[float, float]]
) -> list[list[nn.Module]]:
    """Train `n_members` networks for each pair of rate and penalty, all at once."""
    members = [
        Member(rows, rate, decay, plan.seed + index)
        for rate, decay in pairs
        for index in range(plan.n_members)
    ]
    width = table.X.shape[1]

    def build() -> nn.Module:
        if callable(plan.network):
            return plan.network(width, table.n_outputs)
        return perceptron(width, table.n_outputs, plan.network)

    loss = _LOSSES[plan.task]
    flat = train_stacked(plan.function, build, table.X, table.y, members, loss, plan.training)
    k = plan.n_members
    return [flat[start : start + k] for start in range(0, len(flat), k)]


def _scored(
    plan: Plan,
    table: Table,
    networks: Sequence[nn.Module],
    held_out: Tensor,
    pair: tuple[float, float],
    predict: Predict,
) -> tuple[Choice, Tensor | None]:
    """Score one candidate on the validation rows, a regression at its best noise."""
    fitted = _fitted(table, networks, None, (), Choice(*pair, math.nan))
    X, y = torch.from_numpy(table.features)[held_out], table.targets[held_out.numpy()]
    prediction = predict(fitted, X)
    if plan.task != "regression" or not isinstance(prediction, RegressionPrediction):
        return Choice(*pair, -prediction.log_prob(y).mean().item()), None
    if prediction.samples is None:
        # fit_noise_std takes a mixture; one network is a mixture of two equal ones.
        prediction = RegressionPrediction.from_samples(torch.stack([prediction.mean] * 2))
    noise = fit_noise_std(prediction, y)
    samples = prediction.samples
    noisy = RegressionPrediction.from_samples(samples, noise_std=noise)
    return Choice(*pair, -noisy.log_prob(y).mean().item()), noise


def _split(plan: Plan, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return training and validation rows, drawn by the seed."""
    share = plan.training.validation_fraction
    n_held = min(max(2, round(share * n_rows)), n_rows - 2)
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(plan.seed))
    return order[n_held:], order[:n_held]


def checked_network(function: str, network: Any) -> Network:
    """Return hidden widths as a tuple, or the function that builds a network."""
    if isinstance(network, nn.Module):
        raise UnsupportedError.of(
            function,
            "network",
            "be hidden widths or a function (n_inputs, n_outputs) that builds a network",
            f"a {type(network).__name__}, which has weights already",
            "Pass lambda n_inputs, n_outputs: nn.Sequential(...)",
        )
    if callable(network):
        return network
    widths = tuple(network) if isinstance(network, Sequence) else (network,)
    whole = [isinstance(w, int | np.integer) and not isinstance(w, bool) for w in widths]
    if not widths or not all(whole) or min(widths) < 1:
        raise RangeError.of(
            function, "network", "hold hidden widths of at least 1", repr(network), "Pass (50,)"
        )
    return widths


_LOSSES = {
    "regression": half_squared_error,
    "heteroscedastic": normal_loss,
    "classification": cross_entropy,
}
