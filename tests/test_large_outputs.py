"""Outputs of more than a million numbers, where fewer groups of passes are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mcdrop

# 5 x 460 x 460 numbers are more than 2^20.
X = torch.rand(1, 2, 460, 460, generator=torch.Generator().manual_seed(0))
NUMBERS = torch.rand(30_000, 3, generator=torch.Generator().manual_seed(0))


def pixels(n_out: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, n_out, 1)]
    return nn.Sequential(*layers).eval()


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [20, 40])
@pytest.mark.parametrize("stratified", [True, False])
def test_every_pixel_has_probabilities_and_errors(n_samples: int, stratified: bool) -> None:
    mc = mcdrop.wrap(pixels(5), stratified=stratified)
    p = mc.predict_with_uncertainty(X, task="classification", n_samples=n_samples, seed=0)
    passes = mc.sample(X, n_samples, seed=0).double().softmax(dim=2)
    torch.testing.assert_close(p.probs, passes.mean(dim=0).float())
    for name in ("mcse", "probs_std_mcse", "predictive_entropy_mcse", "mutual_information_mcse"):
        error = getattr(p, name)
        assert error.shape == (p.probs if "prob" in name or name == "mcse" else p.labels).shape
        assert bool(error.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"noise_std": 0.1}, {"keep_samples": True}])
def test_every_pixel_has_a_value(options: dict[str, Any]) -> None:
    mc = mcdrop.wrap(pixels(5))
    p = mc.predict_with_uncertainty(X, task="regression", n_samples=20, seed=0, **options)
    assert p.std_mcse is not None
    assert p.mean.shape == p.std_mcse.shape == (1, 5, 460, 460)
    assert bool(p.std_mcse.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_many_rows_of_many_classes(task: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 40)).eval()
    found = mcdrop.wrap(net).predict_with_uncertainty(NUMBERS, task=task, n_samples=20, seed=0)
    few = mcdrop.wrap(net).predict_with_uncertainty(NUMBERS[:7], task=task, n_samples=20, seed=0)
    torch.testing.assert_close(found[:7].probs, few.probs)
    torch.testing.assert_close(found[:7].mutual_information, few.mutual_information)
