from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mcdrop
from mcdrop.cli.predictions import read_prediction
from mcdrop.errors import UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from tests.report.made import class_prediction, normal_prediction

Writer = Callable[[Path, dict[str, Any]], None]


def csv(path: Path, columns: dict[str, Any]) -> None:
    pd.DataFrame(columns).to_csv(path, index=False)


def parquet(path: Path, columns: dict[str, Any]) -> None:
    pd.DataFrame(columns).to_parquet(path)


def npz(path: Path, columns: dict[str, Any]) -> None:
    np.savez(path, **columns)


WRITERS: dict[str, Writer] = {".csv": csv, ".parquet": parquet, ".npz": npz}
each_kind = pytest.mark.parametrize("suffix", WRITERS)


@each_kind
def test_means_and_deviations_are_a_normal_prediction(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    WRITERS[suffix](path, {"mean": [1.0, 2.0], "std": [0.5, 0.25], "site": ["a", "b"]})
    found = read_prediction(path)
    assert isinstance(found.prediction, RegressionPrediction)
    assert found.prediction.mean.tolist() == [1.0, 2.0]
    assert found.prediction.std.tolist() == [0.5, 0.25]
    assert found.prediction.family == "normal"
    assert found.columns["site"].tolist() == ["a", "b"]


@each_kind
def test_samples_are_a_mixture(suffix: str, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(12, 5))
    path = tmp_path / f"p{suffix}"
    columns: dict[str, Any] = {f"sample_{i}": samples[i] for i in range(12)}
    WRITERS[suffix](path, {"samples": samples} if suffix == ".npz" else columns)
    prediction = read_prediction(path).prediction
    assert isinstance(prediction, RegressionPrediction)
    assert prediction.samples is not None
    np.testing.assert_allclose(prediction.samples, samples)
    np.testing.assert_allclose(prediction.mean, samples.mean(axis=0))
    np.testing.assert_allclose(prediction.variance, samples.var(axis=0, ddof=1))


@each_kind
def test_probabilities_are_a_classification(suffix: str, tmp_path: Path) -> None:
    prediction, _ = class_prediction(n=6)
    probs = prediction.probs.numpy()
    path = tmp_path / f"p{suffix}"
    columns: dict[str, Any] = {f"prob_{i}": probs[:, i] for i in range(3)}
    WRITERS[suffix](path, {"probs": probs} if suffix == ".npz" else columns)
    found = read_prediction(path).prediction
    assert isinstance(found, ClassificationPrediction)
    np.testing.assert_allclose(found.probs, probs)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-12)


def test_a_mean_alone_is_a_point_forecast_and_a_saved_prediction_is_itself(tmp_path: Path) -> None:
    csv(tmp_path / "p.csv", {"mean": [1.0, 2.0]})
    point = read_prediction(tmp_path / "p.csv").prediction
    assert isinstance(point, RegressionPrediction)
    assert point.std.tolist() == [0.0, 0.0]
    saved, _ = normal_prediction(n=4)
    saved.save(tmp_path / "p.pt")
    again = read_prediction(tmp_path / "p.pt").prediction
    assert again.to_numpy()["mean"].tolist() == saved.mean.tolist()


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "names": ({"mu": [1.0, 2.0]}, r"hold `mean` \(and `std`\), .* p\.csv \(columns 'mu'\)"),
    "nan": (
        {"mean": [1.0, float("nan")], "std": [1, 1]},
        r"finite numbers in 'mean', .*\(nan in row 1\)",
    ),
    "text": ({"mean": [1.0, 2.0], "std": ["a", "b"]}, "hold numbers in 'std', but got p.csv"),
    "negative": ({"mean": [1.0, 2.0], "std": [1, -2]}, r"`std` of at least 0, .*-2 in row 1"),
    "gap": ({"sample_0": [1.0], "sample_2": [1.0]}, "number its columns sample_0, .*no sample_1"),
    "one sample": ({"sample_0": [1.0, 2.0]}, r"`samples` of shape \(S, N, \.\.\.\), S >= 2"),
    "logits": ({"prob_0": [2.0, 1.0], "prob_1": [-1.0, 0.5]}, r"sum to 1, .*in row 0.*softmax"),
}


@pytest.mark.parametrize(("columns", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_names_file_and_column(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    csv(tmp_path / "p.csv", columns)
    with pytest.raises(UnsupportedError, match=said):
        read_prediction(tmp_path / "p.csv")


def test_arrays_of_unequal_shape_are_refused(tmp_path: Path) -> None:
    npz(tmp_path / "p.npz", {"mean": np.zeros(3), "std": np.ones(2)})
    with pytest.raises(UnsupportedError, match=r"`mean` and `std` of equal length, .*\(3,\) and"):
        read_prediction(tmp_path / "p.npz")
    npz(tmp_path / "q.npz", {"samples": np.array([[1.0, 2.0], [1.0, np.inf]])})
    with pytest.raises(UnsupportedError, match="finite numbers in 'samples', .*inf in row 1"):
        read_prediction(tmp_path / "q.npz")


@each_kind
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_regression_that_save_wrote_keeps_its_noise(
    suffix: str, n_outputs: int, tmp_path: Path
) -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, n_outputs))
    saved = mcdrop.predict_with_uncertainty(
        net, torch.rand(6, 3), task="regression", noise_std=2.0, keep_samples=True, seed=0
    )
    path = tmp_path / f"p{suffix}"
    saved.save(path)
    found = read_prediction(path).prediction
    assert isinstance(found, RegressionPrediction)
    np.testing.assert_allclose(found.mean.reshape(6, -1), saved.mean, rtol=1e-5)
    np.testing.assert_allclose(found.variance.reshape(6, -1), saved.variance, rtol=0.1)
    assert bool((found.aleatoric_variance >= 3.99).all())


@each_kind
def test_a_classification_that_save_wrote_is_read(suffix: str, tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 4))
    saved = mcdrop.predict_with_uncertainty(
        net, torch.rand(6, 3), task="classification", keep_samples=True, seed=0
    )
    path = tmp_path / f"p{suffix}"
    saved.save(path)
    found = read_prediction(path).prediction
    assert isinstance(found, ClassificationPrediction)
    np.testing.assert_allclose(found.probs, saved.probs, atol=1e-6)
    if suffix == ".npz":
        np.testing.assert_allclose(found.mutual_information, saved.mutual_information, atol=1e-6)
