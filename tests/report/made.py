"""Predictions built from tensors whose calibration is known by construction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop._engine.record import Run
from mcdrop._live.sites import DropoutSite
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.classification import entropy
from mcdrop.report import CalibrationReport

Array = npt.NDArray[np.float64]
Reports = dict[str, CalibrationReport]


def _run(n_samples: int) -> Run:
    site = DropoutSite("layers.2", "dropout", 0.2, 0, (200, 50), True)
    return Run(
        strategy="vectorized",
        reason="It could.",
        n_samples=n_samples,
        seed=7,
        masks="independent",
        stratified=False,
        sites=(site,),
        batch_size=None,
        sample_chunk=n_samples,
        device="cpu",
        dtype="float32",
        seconds=0.25,
    )


def normal_prediction(
    n: int = 300, d: int = 1, stated: float = 1.0, bias: float = 0.0, seed: int = 0
) -> tuple[RegressionPrediction, Array]:
    """Rows with their own std; `stated` multiplies what is stated."""
    draw = np.random.default_rng(seed)
    std = draw.uniform(0.5, 3.0, size=(n, d))
    truth = draw.normal(size=(n, d))
    y = truth + std * draw.normal(size=(n, d))
    variance = torch.from_numpy((stated * std) ** 2)
    zero = torch.zeros_like(variance)
    prediction = RegressionPrediction(
        mean=torch.from_numpy(truth) + bias, epistemic_variance=zero,
        aleatoric_variance=variance, mcse=zero, n_samples=0, family="normal",
    )  # fmt: skip
    return prediction, y


def passes_prediction(
    n: int = 200, n_samples: int = 50, noise: float = 1.0, keep: bool = True, seed: int = 0
) -> tuple[RegressionPrediction, Tensor]:
    """S passes around the truth, with or without noise and kept samples."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, 1, generator=draw, dtype=torch.float64)
    samples = truth + 0.5 * torch.randn(n_samples, n, 1, generator=draw, dtype=torch.float64)
    y = truth + torch.randn(n, 1, generator=draw, dtype=torch.float64)
    variance = samples.var(dim=0)
    prediction = RegressionPrediction(
        mean=samples.mean(dim=0), epistemic_variance=variance,
        aleatoric_variance=torch.full_like(truth, noise**2),
        mcse=(variance / n_samples).sqrt(), n_samples=n_samples,
        samples=samples if keep else None, run=_run(n_samples),
    )  # fmt: skip
    return prediction, y


def class_prediction(
    n: int = 400, n_classes: int = 3, sharpen: float = 1.0, n_samples: int = 0, seed: int = 0
) -> tuple[ClassificationPrediction, Tensor]:
    """Labels drawn from softmax(logits), stated as softmax(sharpened logits)."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, n_classes, generator=draw, dtype=torch.float64)
    y = torch.multinomial(logits.softmax(1), 1, generator=draw).squeeze(1)
    passes = max(n_samples, 1)
    shape = (passes, n, n_classes)
    wobble = torch.randn(shape, generator=draw, dtype=torch.float64) if n_samples else 0.0
    samples = (sharpen * logits + 0.5 * wobble).expand(shape).softmax(2)
    probs = samples.mean(dim=0)
    std = samples.std(dim=0) if n_samples else torch.zeros_like(probs)
    prediction = ClassificationPrediction(
        probs=probs, probs_std=std, expected_entropy=entropy(samples, dim=2).mean(dim=0),
        variation_ratio=torch.zeros(n, dtype=torch.float64), mcse=std / passes**0.5,
        n_samples=n_samples, run=_run(n_samples) if n_samples else None,
    )  # fmt: skip
    return prediction, y


def normal_like(mean: Tensor, variance: Tensor) -> RegressionPrediction:
    """A closed-form normal prediction; with variance 0 a point forecast."""
    zero = torch.zeros_like(mean)
    return RegressionPrediction(
        mean=mean, epistemic_variance=zero, aleatoric_variance=variance + zero, mcse=zero,
        n_samples=0, family="normal",
    )  # fmt: skip


def certain(probs: Tensor) -> ClassificationPrediction:
    """A closed-form prediction from probabilities."""
    zero = torch.zeros_like(probs)
    return ClassificationPrediction(
        probs=probs,
        probs_std=zero,
        expected_entropy=-torch.special.xlogy(probs, probs).sum(1),
        variation_ratio=zero[:, 0],
        mcse=zero,
        n_samples=0,
    )
