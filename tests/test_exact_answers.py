"""The numbers, against enumeration of all masks and against closed forms."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._engine.record import Strategy
from tests.oracles import TinyNet, exact_classification, exact_mean_and_variance
from tests.passes import draw

N_PASSES = 20_000
X = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.5, -0.4], [-0.9, 0.1, 1.5], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("hidden", [3, 10])
def test_moments_agree_with_all_masks_within_four_standard_errors(p: float, hidden: int) -> None:
    net = TinyNet(3, hidden, 2, p, seed=hidden)
    mean, variance = exact_mean_and_variance(net, X)
    prediction = mcdrop.wrap(net).predict_with_uncertainty(
        X, n_samples=N_PASSES, seed=0, keep_samples=True, dtype=torch.float64, task="regression"
    )
    assert prediction.samples is not None
    error = np.abs(prediction.mean.numpy() - mean)
    assert (error <= 4 * np.sqrt(variance / N_PASSES) + 1e-12).all()
    # Var(s^2) = (m4 - s^4) / S, with the fourth moment taken from the passes themselves.
    samples = prediction.samples.numpy()
    fourth = ((samples - mean) ** 4).mean(axis=0)
    spread = np.sqrt(np.maximum(fourth - variance**2, 0) / N_PASSES)
    gap = np.abs(prediction.epistemic_variance.numpy() - variance)
    # Masks realize the rate to 2^-17, hence the relative term.
    assert (gap <= 4 * spread + 1e-3 * variance + 1e-12).all()


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_entropies_and_votes_agree_with_all_masks(p: float) -> None:
    net = TinyNet(3, 8, 3, p, seed=5)
    exact = exact_classification(net, X)
    prediction = mcdrop.wrap(net).predict_with_uncertainty(
        X, n_samples=N_PASSES, seed=3, task="classification", dtype=torch.float64
    )
    probs_error = np.abs(prediction.probs.numpy() - exact["probs"])
    assert (probs_error <= 4 * np.sqrt(exact["probs_variance"] / N_PASSES) + 1e-12).all()
    entropy_error = np.abs(prediction.expected_entropy.numpy() - exact["expected_entropy"])
    entropy_se = np.sqrt(exact["entropy_variance"] / N_PASSES)
    assert (entropy_error <= 4 * entropy_se + 1e-12).all()
    # Delta method: the predictive entropy moves by sum |dH/dp_c| times the error of p_c.
    slope = np.abs(np.log(exact["probs"]) + 1)
    predictive_se = (slope * np.sqrt(exact["probs_variance"] / N_PASSES)).sum(axis=1)
    mutual_error = np.abs(prediction.mutual_information.numpy() - exact["mutual_information"])
    assert (mutual_error <= 4 * (predictive_se + entropy_se) + 1e-12).all()
    ratio = 1 - exact["votes"].max(axis=1)
    ratio_se = np.sqrt(ratio * (1 - ratio) / N_PASSES)
    assert (np.abs(prediction.variation_ratio.numpy() - ratio) <= 4 * ratio_se + 1e-12).all()


@pytest.mark.parametrize("p", [0.004, 0.1, 0.5, 0.8])
def test_linear_model_with_input_dropout_has_the_closed_form_variance(p: float) -> None:
    linear = nn.Linear(6, 1).double()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = p / (1 - p) * (linear.weight.detach() * x).square().sum(dim=1)
    prediction = mcdrop.wrap(nn.Sequential(nn.Dropout(p), linear)).predict_with_uncertainty(
        x, n_samples=N_PASSES, seed=2, keep_samples=True, task="regression"
    )
    assert prediction.samples is not None
    centered = prediction.samples - linear(x).detach()
    fourth = centered.pow(4).mean(dim=0).squeeze(1)
    standard_error = ((fourth - exact.square()).clamp_min(0) / N_PASSES).sqrt()
    error = (prediction.epistemic_variance.squeeze(1) - exact).abs()
    assert bool((error <= 4 * standard_error + 1e-3 * exact).all())


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_alpha_dropout_keeps_mean_and_variance_of_standard_normal_input(
    strategy: Strategy,
) -> None:
    x = torch.randn(200, 500, generator=torch.Generator().manual_seed(1))
    out = passes(nn.AlphaDropout(0.2), x, 8, strategy)
    # Over all 800,000 values the standard error of mean and variance is about 1.1e-3 and 2e-3;
    # the input itself deviates by as much.
    assert out.mean().item() == pytest.approx(0, abs=0.02)
    assert out.var().item() == pytest.approx(1, abs=0.03)
    saturated = (1 - 0.2) * (1 + 0.2 * 1.7580993408473766**2)
    low = -1.7580993408473766 / math.sqrt(saturated) + (
        1.7580993408473766 * 0.2 / math.sqrt(saturated)
    )
    dropped = torch.isclose(out, torch.tensor(low), atol=1e-4).float().mean().item()
    assert dropped == pytest.approx(0.2, abs=0.005)


def test_same_seed_gives_the_same_passes_in_both_strategies_and_any_chunking() -> None:
    net = nn.Sequential(
        nn.Linear(4, 33), nn.ReLU(), nn.Dropout(0.3), nn.Linear(33, 17), nn.Dropout(0.01)
    )
    x = torch.randn(9, 4)
    reference = passes(net, x, 50, "vectorized")
    for strategy, chunk in (("sequential", None), ("vectorized", 1), ("vectorized", 7)):
        other = passes(net, x, 50, strategy, chunk)  # type: ignore[arg-type]
        torch.testing.assert_close(other, reference, rtol=1e-5, atol=1e-6)
    again = passes(net, x, 50, "vectorized")
    assert torch.equal(again, reference)
    assert not torch.equal(passes(net, x, 50, "vectorized", seed=1), reference)


def test_rate_zero_reproduces_the_plain_model_exactly() -> None:
    net = TinyNet(3, 8, 2, 0.5).eval()
    mc = mcdrop.wrap(net, p=0.0)
    assert torch.equal(mc(X), net(X))


def test_overridden_rate_is_the_rate_of_the_variance() -> None:
    linear = nn.Linear(6, 1).double()
    x = torch.ones(1, 6, dtype=torch.float64)
    model = nn.Sequential(nn.Dropout(0.5), linear)
    for rates in (0.1, {"0": 0.1}):
        prediction = mcdrop.wrap(model, p=rates).predict_with_uncertainty(
            x, n_samples=N_PASSES, seed=0, task="regression"
        )
        exact = 0.1 / 0.9 * linear.weight.detach().square().sum().item()
        assert prediction.epistemic_variance.item() == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n_samples", [64, 100, 400])
def test_standard_errors_cover_the_exact_mean_and_std(stratified: bool, n_samples: int) -> None:
    net = TinyNet(3, 10, 1, 0.4, seed=9)
    mean, variance = exact_mean_and_variance(net, X)
    mc = mcdrop.wrap(net, stratified=stratified)
    hits = []
    for seed in range(200):
        prediction = mc.predict_with_uncertainty(
            X[:1], n_samples=n_samples, seed=seed, task="regression", control_variate=False
        )
        assert prediction.std_mcse is not None
        hits.append(
            [
                abs(prediction.mean.item() - mean[0, 0]) <= 1.96 * prediction.mcse.item(),
                abs(prediction.std.item() - variance[0, 0] ** 0.5)
                <= 1.96 * prediction.std_mcse.item(),
            ]
        )
    covered = np.mean(hits, axis=0)
    # 95 % nominal, binomial standard error 1.5 % over 200 repetitions.
    assert (covered >= 0.905).all(), covered
    assert (covered <= (1.0 if stratified else 0.99)).all(), covered


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("n_samples", [100, 400])
def test_standard_errors_cover_the_exact_entropies(stratified: bool, n_samples: int) -> None:
    net = TinyNet(3, 8, 3, 0.3, seed=5)
    exact = exact_classification(net, X)
    mc = mcdrop.wrap(net, stratified=stratified)
    hits = []
    for seed in range(200):
        p = mc.predict_with_uncertainty(
            X[1:2], n_samples=n_samples, seed=seed, task="classification", dtype=torch.float64
        )
        found = {
            "probs": (p.probs, p.mcse, exact["probs"]),
            "probs_std": (p.probs_std, p.probs_std_mcse, exact["probs_variance"] ** 0.5),
            "predictive_entropy": (
                p.predictive_entropy,
                p.predictive_entropy_mcse,
                exact["expected_entropy"] + exact["mutual_information"],
            ),
            "mutual_information": (
                p.mutual_information_corrected,
                p.mutual_information_mcse,
                exact["mutual_information"],
            ),
        }
        hits.append(
            [
                np.mean(np.abs(value.numpy()[0] - true[1]) <= 1.96 * error.numpy()[0])
                for value, error, true in found.values()
                if error is not None
            ]
        )
    covered = np.mean(hits, axis=0)
    assert len(covered) == 4
    # The spread of a probability near 0 has heavy tails: 100 passes do not show them all.
    least = np.array([0.9, 0.9 if n_samples > 100 else 0.85, 0.9, 0.9])
    assert (covered >= least).all(), covered
    assert (covered <= (1.0 if stratified else 0.99)).all(), covered


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("n_samples", [16, 64, 100])
def test_stratified_passes_are_precise_and_their_variance_unbiased(
    p: float, n_samples: int
) -> None:
    net = TinyNet(3, 10, 3, p, seed=11)
    exact = exact_classification(net, X)
    true, variance = exact["probs"], exact["probs_variance"]
    # Rows have masks of their own, so equal rows are repetitions.
    repeats = 3000
    prediction = mcdrop.wrap(net).predict_with_uncertainty(
        X[:3].repeat(repeats, 1), n_samples=n_samples, seed=0, task="classification"
    )
    probs = prediction.probs.double().numpy().reshape(repeats, 3, 3)
    squares = ((probs - true[:3]) ** 2).mean(axis=0)
    variances = (prediction.probs_std.double() ** 2).numpy().reshape(repeats, 3, 3)
    independent = variance[:3].sum() / n_samples
    assert squares.sum() < independent / 3
    # Of one repetition, the sum of variances has a standard deviation of 30 % at S = 16.
    assert variances.mean(axis=0).sum() == pytest.approx(variance[:3].sum(), rel=0.02)


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_identity_of_entropies(task: Literal["classification", "binary"]) -> None:
    net = TinyNet(3, 8, 4 if task == "classification" else 1, 0.5, seed=2)
    prediction = mcdrop.wrap(net).predict_with_uncertainty(X, task=task, seed=0)
    total = prediction.expected_entropy + prediction.mutual_information
    torch.testing.assert_close(prediction.predictive_entropy, total, rtol=1e-6, atol=1e-7)
    assert bool((prediction.mutual_information >= 0).all())


def passes(
    model: nn.Module,
    x: torch.Tensor,
    n: int,
    strategy: Strategy,
    chunk: int | None = None,
    seed: int = 0,
) -> torch.Tensor:
    found, run = draw(model, x, n, strategy, seed=seed, sample_chunk=chunk)
    assert run.strategy == strategy
    return found


def test_two_passes_do_not_pretend_to_know_the_error_of_their_spread() -> None:
    mc = mcdrop.wrap(TinyNet(3, 8, 3, 0.3))
    two = mc.predict_with_uncertainty(
        X, n_samples=2, seed=0, task="regression", control_variate=False
    )
    classes = mc.predict_with_uncertainty(X, n_samples=2, seed=0, task="classification")
    for error in (two.std_mcse, classes.probs_std_mcse, classes.mutual_information_mcse):
        assert error is not None
        assert bool(error.isnan().all())
    three = mc.predict_with_uncertainty(
        X[:3], n_samples=3, seed=0, task="regression", control_variate=False
    ).std_mcse
    assert three is not None
    assert bool((three > 0).all())
