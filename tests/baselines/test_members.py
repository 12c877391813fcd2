"""Predictions of given networks, against plain arithmetic on their outputs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from mcdrop import ClassificationPrediction, RegressionPrediction
from mcdrop.baselines.fitting import Choice, Fitted
from mcdrop.baselines.members import dropout_predictions, plain_predictions

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()
NETS = tuple(nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)).double().eval() for _ in range(3))
NOISE = torch.tensor(0.5)


class Pair(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(x).chunk(2, dim=-1)
        return mean, log_variance


def fitted(networks: tuple[nn.Module, ...], shape: tuple[int, ...], noise: Tensor | None) -> Fitted:
    return Fitted(networks, noise, shape, 2, (), Choice(0.5, 0.0, math.nan))


def outputs() -> np.ndarray:
    with torch.no_grad():
        return torch.stack([net(X) for net in NETS]).numpy()


def test_regression_of_one_and_of_several() -> None:
    one = plain_predictions("regression", fitted(NETS[:1], (2,), NOISE), X)
    several = plain_predictions("regression", fitted(NETS, (2,), NOISE), X)
    assert isinstance(one, RegressionPrediction)
    assert isinstance(several, RegressionPrediction)
    np.testing.assert_allclose(one.mean, outputs()[0])
    np.testing.assert_allclose(one.std, 0.5)
    np.testing.assert_allclose(several.mean, outputs().mean(axis=0))
    np.testing.assert_allclose(several.variance, outputs().var(axis=0, ddof=1) + 0.25)


def test_pairs_carry_the_noise_of_each_member() -> None:
    pairs = tuple(Pair(net) for net in NETS)
    several = plain_predictions("heteroscedastic", fitted(pairs, (), None), X)
    assert isinstance(several, RegressionPrediction)
    mean, log_variance = outputs()[..., 0], outputs()[..., 1]
    np.testing.assert_allclose(several.mean, mean.mean(axis=0))
    np.testing.assert_allclose(several.aleatoric_variance, np.exp(log_variance).mean(axis=0))
    one = plain_predictions("heteroscedastic", fitted(pairs[:1], (), None), X)
    assert isinstance(one, RegressionPrediction)
    np.testing.assert_allclose(one.variance, np.exp(log_variance[0]))


def test_classes_are_the_mean_of_probabilities() -> None:
    several = plain_predictions("classification", fitted(NETS, (), None), X)
    assert isinstance(several, ClassificationPrediction)
    odds = np.exp(outputs())
    probs = odds / odds.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(several.probs, probs.mean(axis=0))


def test_passes_of_all_networks_are_pooled() -> None:
    pairs = tuple(Pair(net) for net in NETS)
    p = dropout_predictions("heteroscedastic", fitted(pairs, (), None), X, 10, seed=0)
    assert isinstance(p, RegressionPrediction)
    assert p.samples is not None
    assert p.sample_variances is not None
    assert p.samples.shape == p.sample_variances.shape == (30, 6)
    np.testing.assert_allclose(p.aleatoric_variance, p.sample_variances.mean(dim=0))
    classes = dropout_predictions("classification", fitted(NETS, (), None), X, 10, seed=0)
    assert classes.n_samples == 30
    one = dropout_predictions("regression", fitted(NETS[:1], (2,), NOISE), X, 10, seed=0)
    assert one.run is not None
    assert isinstance(one, RegressionPrediction)
    np.testing.assert_allclose(one.aleatoric_variance, 0.25)
