"""Exported estimators return what the estimators predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._export.members import MemberClasses, MemberRegression
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor
from mcdrop.recalibration import StdScaling

X = np.random.default_rng(0).normal(5.0, 3.0, size=(60, 3))
Y = X @ [1.0, -2.0, 0.5]
FIT: dict[str, Any] = {"n_members": 3, "n_samples": 24, "max_epochs": 3, "random_state": 0}


def test_a_mixture_by_hand() -> None:
    # Two passes of two members: means 1 and 5, variances over passes 2 and 8.
    passes = torch.tensor([[[[0.0], [3.0]]], [[[2.0], [7.0]]]])
    summary = MemberRegression(2, stratified=False, noise_std=[2.0], heteroscedastic=False)
    found = {name: float(x) for name, x in summary(passes).items()}
    # Epistemic: (2 + 8) / 2 within, 4 between.
    assert found == pytest.approx({"mean": 3.0, "epistemic_std": 3.0, "std": 13**0.5})
    pairs = torch.cat([passes, torch.full_like(passes, 4.0).log()], dim=-1)
    learned = MemberRegression(2, stratified=False, noise_std=None, heteroscedastic=True)
    assert {name: float(x) for name, x in learned(pairs).items()} == pytest.approx(found)


def test_classes_of_one_member_are_those_of_its_passes() -> None:
    logits = torch.randn(8, 5, 3, dtype=torch.float64)
    found = MemberClasses()(logits)
    probs = logits.softmax(dim=2)
    expected = mcdrop.ClassificationPrediction.from_samples(probs)
    for name in ("probs", "predictive_entropy", "mutual_information"):
        torch.testing.assert_close(found[name], getattr(expected, name))
    torch.testing.assert_close(found["probs_std"], probs.std(dim=0))
    torch.testing.assert_close(MemberClasses()(logits.unsqueeze(2)), found)


def made(kind: str) -> Any:
    if kind == "classes":
        return MCDropoutClassifier((8,), 0.2, **FIT).fit(X, np.where(Y > 0, "up", "down"))
    if kind == "module":
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)).eval()
        return MCDropoutRegressor.from_module(net, noise_std=0.3, n_samples=16, random_state=0)
    y = np.column_stack([Y, -Y]) if kind == "two targets" else Y
    return MCDropoutRegressor((8,), 0.2, heteroscedastic=kind == "noise", **FIT).fit(X, y)


def run(path: Path, rows: np.ndarray, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    program: Any = torch.export.load(path).module()
    found: dict[str, Tensor] = program(torch.from_numpy(rows).to(dtype))
    return found


KINDS = ["numbers", *(pytest.param(k, marks=pytest.mark.slow) for k in ("noise", "two targets"))]
KINDS += [pytest.param(kind, marks=pytest.mark.slow) for kind in ("classes", "module")]


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_is_exported_with_its_scales_and_members(kind: str, tmp_path: Path) -> None:
    estimator = made(kind)
    mcdrop.export(estimator, X[:5], tmp_path / "m.pt2")
    dtype = torch.float32 if kind == "module" else torch.float64
    found = run(tmp_path / "m.pt2", X[20:], dtype)
    expected = estimator.predict_with_uncertainty(X[20:])
    for name, values in found.items():
        torch.testing.assert_close(values, getattr(expected, name), atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_passes_seed_and_recalibration_can_be_given(tmp_path: Path) -> None:
    estimator = made("numbers")
    other = made("numbers")
    other.n_samples, other.seed_ = 48, 7
    scaling = StdScaling().fit(other.predict_with_uncertainty(X).as_normal(), Y)
    options: dict[str, Any] = {"n_samples": 48, "seed": 7, "recalibration": scaling}
    mcdrop.export(estimator, X[:5], tmp_path / "m.pt2", **options)
    found = run(tmp_path / "m.pt2", X)
    expected = scaling(other.predict_with_uncertainty(X))
    torch.testing.assert_close(found["std"], expected.std)
    # The estimator stays as it was.
    assert (estimator.n_samples, estimator.seed_) != (48, 7)


@pytest.mark.slow
def test_an_estimator_as_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    estimator = made("numbers")
    mcdrop.export(estimator, X[:5], tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    mean, std, _ = session.run(None, {session.get_inputs()[0].name: X})
    expected = estimator.predict(X, return_std=True)
    np.testing.assert_allclose((mean[:, 0], std[:, 0]), expected, rtol=1e-5)


def test_what_an_estimator_says_itself_is_refused(tmp_path: Path) -> None:
    estimator = made("module")
    path = tmp_path / "m.pt2"
    for name, value in {"task": "regression", "noise_std": 0.1, "output_type": "probs"}.items():
        options: dict[str, Any] = {name: value}
        with pytest.raises(mcdrop.UnsupportedError, match=f"`{name}` to be left out for a MCDrop"):
            mcdrop.export(estimator, X, path, **options)
    plain = MCDropoutRegressor((8,), 0.0, n_members=2, max_epochs=1, random_state=0).fit(X, Y)
    with pytest.raises(mcdrop.UnsupportedError, match=r"something to drop, but got .*with p=0"):
        mcdrop.export(plain, X, path)
    one = MCDropoutClassifier((8,), n_members=2, max_epochs=1, random_state=0)
    with pytest.raises(mcdrop.UnsupportedError, match="one class, which is certain"):
        mcdrop.export(one.fit(X, ["a"] * len(X)), X, path)
    with pytest.raises(ValueError, match="X has 2 features"):
        mcdrop.export(estimator, X[:, :2], path)
