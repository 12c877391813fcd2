"""Predictions built from given passes, and the joint information by enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import mcdrop

Array = npt.NDArray[np.float64]


def random_passes(n_passes: int, n_rows: int, n_classes: int, seed: int = 0) -> Array:
    """Class probabilities of every pass, (S, N, C), of rows from dull to telling."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_passes, n_rows, n_classes))
    logits *= np.linspace(0.2, 3, n_rows)[:, None]
    probs = np.exp(logits)
    return np.asarray(probs / probs.sum(axis=2, keepdims=True))


def prediction_of(passes: Array) -> mcdrop.ClassificationPrediction:
    """A prediction whose kept samples are `passes`, float64."""
    mean, each = passes.mean(axis=0), -(passes * np.log(np.maximum(passes, 1e-300))).sum(axis=2)
    votes = np.eye(passes.shape[2])[passes.argmax(axis=2)].mean(axis=0)
    return mcdrop.ClassificationPrediction(
        probs=torch.tensor(mean),
        probs_std=torch.tensor(passes.std(axis=0, ddof=1)),
        expected_entropy=torch.tensor(each.mean(axis=0)),
        variation_ratio=torch.tensor(1 - votes.max(axis=1)),
        mcse=torch.tensor(passes.std(axis=0, ddof=1) / len(passes) ** 0.5),
        n_samples=len(passes),
        samples=torch.tensor(passes),
    )


def joint_information(passes: Array, rows: list[int]) -> float:
    """I(y_rows; w) = H[y_rows] - mean_s H[y_rows | s], one configuration of labels at a time."""
    n_passes, _, n_classes = passes.shape
    joint_entropy = conditional = 0.0
    for labels in itertools.product(range(n_classes), repeat=len(rows)):
        by_pass = []
        for s in range(n_passes):
            chance = math.prod(
                passes[s, row, label] for row, label in zip(rows, labels, strict=True)
            )
            by_pass.append(chance)
            if chance > 0:
                conditional -= chance * math.log(chance) / n_passes
        total = sum(by_pass) / n_passes
        if total > 0:
            joint_entropy -= total * math.log(total)
    return joint_entropy - conditional


NET = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


def shared(n_samples: int = 100) -> mcdrop.ClassificationPrediction:
    """Thirty rows through one small network, one mask per pass."""
    return mcdrop.wrap(NET, masks="shared").predict_with_uncertainty(
        X, task="classification", n_samples=n_samples, seed=0, keep_samples=True
    )


def permuted(
    prediction: mcdrop.ClassificationPrediction, seed: int
) -> mcdrop.ClassificationPrediction:
    """The same prediction with its passes in another order."""
    assert prediction.samples is not None
    order = torch.randperm(prediction.n_samples, generator=torch.Generator().manual_seed(seed))
    return replace(prediction, samples=prediction.samples[order])
