"""What `mcdrop report` shows without a file: a small network with dropout on a known data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from mcdrop.baselines import Deterministic, Ridge
from mcdrop.prediction import RegressionPrediction, fit_noise_std
from mcdrop.prediction.base import Prediction
from mcdrop.wrapper import wrap

__all__ = ["demonstration"]

_EPOCHS, _RATE, _WIDTH = 40, 0.4, 64


def demonstration() -> tuple[RegressionPrediction, Any, dict[str, Prediction]]:
    """Predict disease progression one year later, scikit-learn's diabetes data.

    Returns:
        The prediction for 89 test rows, their targets, and two baselines.
    """
    from sklearn.datasets import load_diabetes

    X, y = (np.asarray(part, dtype=np.float32) for part in load_diabetes(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(y))
    train, held_out, test = np.split(order, [265, 353])
    center, scale = X[train].mean(axis=0), X[train].std(axis=0)
    inputs = torch.from_numpy((X - center) / scale)
    targets = torch.from_numpy(y)[:, None]
    net = _trained(inputs[train], targets[train])
    mc = wrap(net)
    noise = fit_noise_std(
        mc.predict_with_uncertainty(inputs[held_out], n_samples=200, seed=0, keep_samples=True),
        targets[held_out],
    )
    prediction = mc.predict_with_uncertainty(
        inputs[test], n_samples=200, seed=0, keep_samples=True, noise_std=noise
    )
    baselines: dict[str, Prediction] = {
        "Ridge": Ridge().fit(inputs[train], targets[train]).predict(inputs[test]),
        "Dropout off": Deterministic(net)
        .fit(inputs[held_out], targets[held_out])
        .predict(inputs[test]),
    }
    return prediction, targets[test], baselines


def _trained(X: torch.Tensor, y: torch.Tensor) -> nn.Sequential:
    """Train on standardized targets, then bring the last layer back to units of y."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(X.shape[1], _WIDTH), nn.ReLU(), nn.Dropout(_RATE),
            nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Dropout(_RATE), nn.Linear(_WIDTH, 1),
        )  # fmt: skip
        center, scale = y.mean(), y.std()
        adam = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(X)).split(32):
                adam.zero_grad()
                nn.functional.mse_loss(net(X[rows]), (y[rows] - center) / scale).backward()
                adam.step()
    last = net[-1]
    with torch.no_grad():
        last.get_parameter("weight").mul_(scale)
        last.get_parameter("bias").mul_(scale).add_(center)
    return net.eval()
