"""Class probabilities: derived quantities, rows and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.prediction.classification import entropy

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
NET = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def prediction() -> mcdrop.ClassificationPrediction:
    mc = mcdrop.wrap(NET, stratified=False)
    return mc.predict_with_uncertainty(X, task="classification", seed=0, keep_samples=True)


def test_every_field_follows_from_the_kept_samples() -> None:
    p = prediction()
    assert p.samples is not None
    samples = p.samples.double().numpy()
    mean = samples.mean(axis=0)
    np.testing.assert_allclose(p.probs, mean, rtol=1e-5)
    np.testing.assert_allclose(p.probs_std, samples.std(axis=0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(p.mcse, samples.std(axis=0, ddof=1) / 10, rtol=0.02)
    np.testing.assert_array_equal(p.labels, mean.argmax(axis=1))
    np.testing.assert_allclose(p.confidence, mean.max(axis=1), rtol=1e-5)
    each = -(samples * np.log(samples)).sum(axis=2)
    np.testing.assert_allclose(p.expected_entropy, each.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(p.predictive_entropy, -(mean * np.log(mean)).sum(axis=1), rtol=1e-5)
    votes = np.stack([np.bincount(row, minlength=3) for row in samples.argmax(axis=2).T])
    np.testing.assert_allclose(p.variation_ratio, 1 - votes.max(axis=1) / 100, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_entropy_of_certain_and_of_denormal_probabilities(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny / 16
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [1.0, tiny]], dtype=dtype, requires_grad=True)
    found = entropy(probs)
    torch.testing.assert_close(found, torch.tensor([0.0, np.log(2), 0.0], dtype=dtype))
    found.sum().backward()
    assert probs.grad is not None
    assert bool(probs.grad.isfinite().all())


def test_per_pixel_classes_lie_along_dimension_one() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Dropout2d(0.5))
    x = torch.randn(2, 1, 4, 5)
    p = mcdrop.wrap(net).predict_with_uncertainty(x, task="classification")
    assert p.probs.shape == (2, 3, 4, 5)
    assert p.labels.shape == p.predictive_entropy.shape == p.variation_ratio.shape == (2, 4, 5)
    assert p.log_prob(torch.zeros(2, 4, 5, dtype=torch.int64)).shape == (2, 4, 5)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_binary_scores_become_two_classes(shape: tuple[int, ...]) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.linear = nn.Dropout(0.5), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.drop(x)).reshape(shape)

    p = mcdrop.wrap(Head()).predict_with_uncertainty(X, task="binary", keep_samples=True)
    assert p.samples is not None
    assert p.probs.shape == (6, 2)
    torch.testing.assert_close(p.probs.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(p.probs[:, 1], p.samples[:, :, 1].mean(dim=0))


def test_log_prob_reads_off_the_mean_probability() -> None:
    p = prediction()
    y = [0, 1, 2, 0, 1, 2]
    expected = [np.log(p.probs[row, label].item()) for row, label in enumerate(y)]
    np.testing.assert_allclose(p.log_prob(y), expected, rtol=1e-6)


@pytest.mark.parametrize("y", [[0, 1, 2, 0, 1, 3], [0, 1, 2, 0, 1, -1], [0.5] * 6])
def test_labels_outside_the_classes_are_refused(y: list[float]) -> None:
    with pytest.raises(mcdrop.RangeError, match="`y` to hold class indices from 0 to 2"):
        prediction().log_prob(np.array(y))


def test_rows_tables_and_files(tmp_path: Path) -> None:
    p = prediction()
    assert p[1:3].probs.shape == (2, 3)
    table = p.to_pandas()
    assert list(table["labels"]) == p.labels.tolist()
    assert {"confidence", "mutual_information", "probs_0", "mcse_2"} <= set(table.columns)
    p.save(tmp_path / "p.pt")
    back = mcdrop.ClassificationPrediction.load(tmp_path / "p.pt")
    assert torch.equal(back.probs, p.probs)
    assert back.run == p.run
    assert "100 passes, vectorized" in repr(back)
