"""Predictions built from tensors whose calibration is known by construction."""

import numpy as np
import pytest
import torch

from mcdrop._engine.record import Run
from mcdrop._live.sites import DropoutSite
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.classification import entropy
from mcdrop.report import calibration_report


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors here are small: threads that wait for each other cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _run(n_samples):
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


@pytest.fixture(scope="session")
def normal_prediction():
    """Return a factory: rows with their own std; `stated` multiplies what is stated."""

    def make(n=300, d=1, stated=1.0, bias=0.0, seed=0):
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

    return make


@pytest.fixture(scope="session")
def passes_prediction():
    """Return a factory: S passes around the truth, with or without noise and kept samples."""

    def make(n=200, n_samples=50, noise=1.0, keep=True, seed=0):
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

    return make


@pytest.fixture(scope="session")
def class_prediction():
    """Return a factory: labels drawn from softmax(logits), stated as softmax(sharpened logits)."""

    def make(n=400, n_classes=3, sharpen=1.0, n_samples=0, seed=0):
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

    return make


@pytest.fixture(scope="session")
def reports(passes_prediction, normal_prediction, class_prediction):
    """Return one report of each task, with baselines."""
    passes, y = passes_prediction(n=120, n_samples=20)
    baseline = passes.as_normal()
    point = RegressionPrediction(
        mean=passes.mean, epistemic_variance=0 * passes.mean, aleatoric_variance=0 * passes.mean,
        mcse=0 * passes.mean, n_samples=0, family="normal",
    )  # fmt: skip
    probs, labels = class_prediction(n=200, n_samples=10)
    plain, _ = class_prediction(n=200, sharpen=3.0)
    return {
        "regression": calibration_report(
            passes, y, baselines={"Ridge": baseline, "Point": point}, n_resamples=50
        ),
        "classification": calibration_report(
            probs, labels, baselines={"L2 logistic": plain}, n_resamples=50
        ),
    }
