"""Predictions made by hand, float64, every field written out from its definition."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from mcdrop import ClassificationPrediction, RegressionPrediction


def entropies(probs: Any) -> Any:
    p = np.asarray(probs, dtype=float)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)


def averaged(probs: Any) -> ClassificationPrediction:
    """A closed-form prediction, (N, C): no passes, all uncertainty aleatoric."""
    p = torch.as_tensor(np.asarray(probs, dtype=float))
    return ClassificationPrediction(
        probs=p,
        probs_std=torch.zeros_like(p),
        expected_entropy=torch.from_numpy(entropies(p)),
        variation_ratio=torch.zeros(len(p)),
        mcse=torch.zeros_like(p),
        n_samples=0,
    )


def from_passes(samples: Any, keep: bool = True) -> ClassificationPrediction:
    """The prediction that passes (S, N, C) amount to."""
    x = np.asarray(samples, dtype=float)
    n_passes, n_classes = x.shape[0], x.shape[2]
    votes = np.stack([np.bincount(row, minlength=n_classes) for row in x.argmax(axis=2).T])
    # Student's t over the normal, so that 1.96 standard errors cover 95 %.
    widening = stats.t.ppf(0.975, n_passes - 1) / stats.norm.ppf(0.975)
    bias = (x.var(axis=0, ddof=1) / n_passes / x.mean(axis=0)).sum(axis=1) / 2
    return ClassificationPrediction(
        probs=torch.from_numpy(x.mean(axis=0)),
        probs_std=torch.from_numpy(x.std(axis=0, ddof=1)),
        expected_entropy=torch.from_numpy(entropies(x).mean(axis=0)),
        variation_ratio=torch.from_numpy(1 - votes.max(axis=1) / n_passes),
        mcse=torch.from_numpy(x.std(axis=0, ddof=1) / n_passes**0.5 * widening),
        mutual_information_bias=torch.from_numpy(-bias),
        n_samples=n_passes,
        samples=torch.from_numpy(x) if keep else None,
    )


def softmax(logits: Any) -> Any:
    e = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def drawn_labels(probs: Any, rng: np.random.Generator) -> Any:
    return (rng.uniform(size=(len(probs), 1)) > np.cumsum(probs, axis=1)[:, :-1]).sum(axis=1)


def normal(mean: Any, std: Any) -> RegressionPrediction:
    """A closed-form normal, a quarter of its variance epistemic."""
    m = torch.as_tensor(np.asarray(mean, dtype=float))
    variance = torch.as_tensor(np.asarray(std, dtype=float)).expand(m.shape).square()
    return RegressionPrediction(
        mean=m,
        epistemic_variance=variance / 4,
        aleatoric_variance=variance * 3 / 4,
        mcse=torch.zeros_like(m),
        n_samples=0,
        family="normal",
    )


def mixture(
    n: int, *, passes: int = 8, noise: float = 0.5, seed: int = 0, by_pass: bool = False
) -> RegressionPrediction:
    """Passes of spread 1 around random means, with observation noise; shape (N, 1)."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(1, n, 1)) * 2 + rng.normal(size=(passes, n, 1))
    variances = noise**2 * (rng.uniform(0.5, 2, samples.shape) if by_pass else np.ones((1, n, 1)))
    return RegressionPrediction(
        mean=torch.from_numpy(samples.mean(axis=0)),
        epistemic_variance=torch.from_numpy(samples.var(axis=0, ddof=1)),
        aleatoric_variance=torch.from_numpy(variances.mean(axis=0)),
        mcse=torch.from_numpy(samples.std(axis=0, ddof=1) / passes**0.5),
        n_samples=passes,
        samples=torch.from_numpy(samples),
        sample_variances=torch.from_numpy(variances) if by_pass else None,
    )


def mixture_targets(p: RegressionPrediction, stretch: float = 1.0, seed: int = 1) -> Tensor:
    """Targets drawn from the mixture, stretched about its mean."""
    rng = np.random.default_rng(seed)
    assert p.samples is not None
    chosen = rng.integers(0, len(p.samples), len(p))
    centers = p.samples[chosen, np.arange(len(p)), 0].numpy()
    y = centers + rng.normal(size=len(p)) * p.aleatoric_std[:, 0].numpy()
    mean = p.mean[:, 0].numpy()
    return torch.from_numpy(mean + stretch * (y - mean))


def assert_splits_add_up(p: ClassificationPrediction | RegressionPrediction) -> None:
    kind: Literal["entropy", "variance"] = "entropy"
    if isinstance(p, RegressionPrediction):
        kind = "variance"
        parts = p.epistemic_variance + p.aleatoric_variance
        total = p.variance
    else:
        parts, total = p.expected_entropy + p.mutual_information, p.predictive_entropy
    torch.testing.assert_close(parts, total, rtol=1e-12, atol=1e-12, msg=kind)
