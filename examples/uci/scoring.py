"""Predict test rows with mcdrop, and score them: root mean squared error and log-likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop import metrics
from uci.data import Doubles, Table

__all__ = ["DropoutPredictor", "Predictor", "Score", "score"]

# What a method makes of its training rows: features (N, D) to predictions of N rows.
Predictor = Callable[[Doubles], mcdrop.RegressionPrediction]

# Numbers of all passes that are held at a time, so that memory does not grow with the test rows.
_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Score:
    """How well one split was predicted.

    Attributes:
        rmse: Root mean squared error of the predictive mean, units of y.
        log_likelihood: Mean log predictive density of the test targets, nats.
    """

    rmse: float
    log_likelihood: float


@dataclass(frozen=True)
class DropoutPredictor:
    """One or several networks with their dropout alive: a mixture over all passes of all of them.

    Attributes:
        networks: Trained networks in units of the data.
        n_samples: Passes in all, shared out among the networks.
        noise_std: Standard deviation of the noise, units of y; None for networks that predict it.
        stretch: Factor on the predicted noise of heteroscedastic networks.
        seed: Of the masks.
    """

    networks: Sequence[nn.Module]
    n_samples: int
    noise_std: float | None
    stretch: float = 1.0
    seed: int = 0

    def __call__(self, X: Doubles) -> mcdrop.RegressionPrediction:
        """Predict rows, (N, D); the prediction keeps all passes."""
        inputs = torch.tensor(X, dtype=torch.float32)
        passes = max(2, self.n_samples // len(self.networks))
        parts = [
            self._passes(network, inputs, passes, self.seed + i)
            for i, network in enumerate(self.networks)
        ]
        means = torch.cat([mean for mean, _ in parts])
        stds = torch.cat([std for _, std in parts])
        return mcdrop.RegressionPrediction.from_samples(means, noise_std=stds)

    def _passes(
        self, network: nn.Module, inputs: Tensor, passes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return mean and noise of every pass of one network, (S, N)."""
        noise = self.noise_std
        found = mcdrop.predict_with_uncertainty(
            network,
            inputs,
            task="heteroscedastic" if noise is None else "regression",
            output_type="log_variance" if noise is None else "logits",
            noise_std=noise,
            n_samples=passes,
            keep_samples=True,
            seed=seed,
        )
        if found.samples is None:
            raise RuntimeError("passes were asked for and not kept")
        if found.sample_variances is None:
            return found.samples, found.aleatoric_std.expand_as(found.samples)
        return found.samples, self.stretch * found.sample_variances.sqrt()


def score(predictor: Predictor, test: Table, n_samples: int) -> Score:
    """Score the predictions of test rows.

    Args:
        predictor: From `methods.py` or `selection.py`.
        test: Test rows.
        n_samples: Numbers the predictor keeps per row, to bound memory.
    """
    squares, densities = [], []
    rows = max(1, _NUMBERS // max(n_samples, 1))
    for begin in range(0, len(test), rows):
        part = test.rows(np.arange(begin, min(begin + rows, len(test))))
        prediction = predictor(part.X)
        target = torch.from_numpy(part.y)
        squares.append(metrics.rmse(prediction.mean, target) ** 2 * len(part))
        densities.append(-float(_nll(prediction, target).sum()))
    n = len(test)
    return Score(float(np.sqrt(sum(squares) / n)), sum(densities) / n)


def _nll(prediction: mcdrop.RegressionPrediction, y: Tensor) -> Tensor:
    """Negative log density of each target: that of the mixture where passes were kept."""
    if prediction.samples is None:
        return torch.as_tensor(metrics.nll_normal(prediction.mean, prediction.std, y))
    noise = prediction.sample_variances
    variance = prediction.aleatoric_variance.unsqueeze(0) if noise is None else noise
    stds = variance.sqrt().expand_as(prediction.samples)
    return torch.as_tensor(metrics.nll_mixture(prediction.samples, stds, y))
