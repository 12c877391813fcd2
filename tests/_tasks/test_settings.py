"""Heteroscedastic, multilabel and sequence outputs, against enumeration and hand-made answers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from tests.oracles import TinyNet, every_mask, exact_classification

X = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.5, -0.4], [-0.9, 0.1, 1.5]])
N_PASSES = 20_000


def column(label: int, out: torch.Tensor) -> torch.Tensor:
    return out[:, label]


class Pair(nn.Module):
    """Mean and log-variance of one output, from the two outputs of a tiny net."""

    def __init__(self, net: TinyNet, *, log: bool = True) -> None:
        super().__init__()
        self.net, self.log = net, log

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, spread = (0.3 * self.net(x)).split(1, dim=1)
        return mean, (spread if self.log else spread.exp())


@pytest.mark.parametrize("log", [True, False])
def test_law_of_total_variance_over_all_masks(log: bool) -> None:
    net = TinyNet(3, 6, 2, 0.3, seed=4)
    mean = np.zeros(3)
    aleatoric = np.zeros(3)
    square = np.zeros(3)
    noise_square = np.zeros(3)
    for probability, out in every_mask(net, X):
        mean += probability * 0.3 * out[:, 0]
        square += probability * (0.3 * out[:, 0]) ** 2
        aleatoric += probability * np.exp(0.3 * out[:, 1])
        noise_square += probability * np.exp(0.6 * out[:, 1])
    found = mcdrop.wrap(Pair(net, log=log)).predict_with_uncertainty(
        X,
        task="heteroscedastic",
        output_type="log_variance" if log else "variance",
        n_samples=N_PASSES,
        seed=0,
        keep_samples=True,
    )
    epistemic = square - mean**2
    assert found.mean.shape == (3, 1)
    error = np.abs(found.mean[:, 0].numpy() - mean)
    assert (error <= 4 * np.sqrt(epistemic / N_PASSES) + 1e-6).all()
    noise_error = np.abs(found.aleatoric_variance[:, 0].numpy() - aleatoric)
    noise_se = np.sqrt((noise_square - aleatoric**2) / N_PASSES)
    assert (noise_error <= 4 * noise_se + 1e-4 * aleatoric).all()
    np.testing.assert_allclose(found.epistemic_variance[:, 0], epistemic, rtol=0.1)
    assert found.sample_variances is not None
    torch.testing.assert_close(found.sample_variances.mean(dim=0), found.aleatoric_variance)
    assert bool(found.log_prob(torch.zeros(3)).isfinite().all())


def test_mixture_uses_the_noise_of_each_pass() -> None:
    samples = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).double()
    variances = torch.tensor([1.0, 4.0]).reshape(2, 1, 1).double()
    prediction = mcdrop.RegressionPrediction(
        mean=samples.mean(dim=0),
        epistemic_variance=samples.var(dim=0),
        aleatoric_variance=variances.mean(dim=0),
        mcse=torch.zeros(1, 1),
        n_samples=2,
        samples=samples,
        sample_variances=variances,
    )
    # Half of N(0; 0, 1) and half of N(0; 1, 2^2).
    density = 0.5 * 0.3989422804 + 0.5 * 0.3989422804 / 2 * np.exp(-1 / 8)
    assert prediction.log_prob([0.0]).item() == pytest.approx(np.log(density), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (
            lambda out: (out[:, :1], out[:, 1:]),
            {},
            r'`output_type` to be one of "log_variance", "v',
        ),
        (
            lambda out: out,
            {"output_type": "variance"},
            r"return \(mean, log_variance\) of one shape",
        ),
        (
            lambda out: (out, out[:, :1]),
            {"output_type": "log_variance"},
            r"but got \(3, 2\), \(3, 1\)\. Make the pair",
        ),
        (
            lambda out: (out[:, :1], -out[:, 1:].square()),
            {"output_type": "variance"},
            "Pass output_type='log_variance'",
        ),
        (
            lambda out: (out[:, :1], out[:, 1:]),
            {"output_type": "log_variance", "noise_std": 1.0},
            "`noise_std` to be None for task='heteroscedastic'",
        ),
    ],
)
def test_what_is_no_pair_of_mean_and_variance_is_refused(
    make: Any, options: dict[str, Any], text: str
) -> None:
    mc = mcdrop.wrap(TinyNet(3, 6, 2, 0.3))
    with pytest.raises(mcdrop.McdropError, match=text):
        mc.predict_with_uncertainty(X, task="heteroscedastic", select=make, **options)


def test_labels_of_a_multilabel_model_are_binary_each() -> None:
    net = TinyNet(3, 6, 4, 0.3, seed=1)
    mc = mcdrop.wrap(net)
    many = mc.predict_with_uncertainty(X, task="multilabel", seed=0, keep_samples=True)
    assert many.probs.shape == (3, 2, 4)
    assert many.labels.shape == many.predictive_entropy.shape == (3, 4)
    for label in range(4):
        one = mc.predict_with_uncertainty(
            X, task="binary", seed=0, select=functools.partial(column, label)
        )
        torch.testing.assert_close(many.probs[:, :, label], one.probs)
        torch.testing.assert_close(many.expected_entropy[:, label], one.expected_entropy)
        torch.testing.assert_close(many.variation_ratio[:, label], one.variation_ratio)
    assert many.log_prob(torch.zeros(3, 4, dtype=torch.int64)).shape == (3, 4)
    with pytest.raises(mcdrop.ShapeError, match=r"scores per row, \(N, L\) for task='multilabel'"):
        mc.predict_with_uncertainty(X, task="multilabel", select=lambda out: out[:, 0])


def test_sequences_and_images_keep_their_shape() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout2d(0.5))
    images = torch.randn(3, 1, 4, 5)
    prediction = mcdrop.wrap(net).predict_with_uncertainty(
        images, noise_std=0.1, keep_samples=True, seed=0
    )
    assert prediction.mean.shape == prediction.std.shape == (3, 2, 4, 5)
    lower, upper = prediction.interval(0.8)
    assert bool((lower < upper).all())
    assert prediction.log_prob(torch.zeros(3, 2, 4, 5)).shape == (3, 2, 4, 5)
    assert prediction.quantile([0.1, 0.9]).shape == (2, 3, 2, 4, 5)


def test_correction_removes_most_of_the_bias_of_the_mutual_information() -> None:
    net = TinyNet(3, 8, 3, 0.4, seed=5)
    exact = exact_classification(net, X)["mutual_information"]
    mc = mcdrop.wrap(net, stratified=False)
    plug_in, corrected = [], []
    for seed in range(400):
        few = mc.predict_with_uncertainty(X, task="classification", n_samples=8, seed=seed)
        plug_in.append(few.mutual_information.numpy())
        corrected.append(few.mutual_information_corrected.numpy())
    bias = np.mean(plug_in, axis=0) - exact
    standard_error = np.std(plug_in, axis=0) / 20
    assert (bias < -4 * standard_error).all()
    left = np.abs(np.mean(corrected, axis=0) - exact)
    assert (left < 0.35 * np.abs(bias)).all()


@pytest.mark.parametrize("task", [None, "regression"])
def test_a_regression_has_no_output_type(task: Any) -> None:
    text = r"`output_type` to be left out for a regression.*got 'probs'\. Name the task it is for"
    with pytest.raises(mcdrop.RangeError, match=text):
        mcdrop.predict_with_uncertainty(
            nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 1)),
            torch.ones(2, 2),
            task=task,
            output_type="probs",
        )
