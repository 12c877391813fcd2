"""Exported programs return what predictions say, without mcdrop and without random numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests._export.models import MODELS, TwoInputs, made, mlp

QUICK = ("mlp", "residual")
SLOW = tuple(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in QUICK)


def loaded(path: Path) -> Any:
    return torch.export.load(path).module()


def plain(mc: mcdrop.MCDropout, inputs: Any, **options: Any) -> Any:
    """Predict with every mask drawn, as programs do."""
    given = {"n_samples": 32, "seed": 0, "task": "regression", **options}
    return mc.predict_with_uncertainty(inputs, control_variate=False, **given)


def agrees(found: dict[str, Tensor], prediction: Any) -> None:
    for name, values in found.items():
        torch.testing.assert_close(values, getattr(prediction, name), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_a_program_returns_what_a_prediction_says(name: str, tmp_path: Path) -> None:
    model, x = made(name)
    path = tmp_path / "model.pt2"
    mcdrop.export(model, x, path, n_samples=20, seed=3, task="classification")
    program = torch.export.load(path)
    targets = {str(node.target) for node in program.graph.nodes}
    assert not [t for t in targets if any(w in t for w in ("rand", "bernoulli", "dropout"))]
    mc = mcdrop.wrap(model, masks="shared")
    for rows in (x, torch.randn(7, *x.shape[1:]), x[:1]):
        expected = plain(mc, rows, task="classification", n_samples=20, seed=3)
        agrees(program.module()(rows), expected)


def test_settings_of_a_wrapper_hold(tmp_path: Path) -> None:
    model, x = made("mlp")
    mc = mcdrop.wrap(model, p=0.4, stratified=False, masks="shared")
    mcdrop.export(mc, x, tmp_path / "m.pt2", n_samples=10, noise_std=0.5)
    expected = plain(mc, x, n_samples=10, noise_std=0.5)
    agrees(loaded(tmp_path / "m.pt2")(x), expected)


@pytest.mark.slow
def test_several_inputs_and_outputs_are_named(tmp_path: Path) -> None:
    model, inputs = TwoInputs().eval(), (torch.randn(4, 6), torch.randn(4, 4))
    named = dict(zip(("left", "right"), inputs, strict=True))
    for example in (inputs, named):
        mcdrop.export(model, example, tmp_path / "m.pt2", select="out", task="regression")
        mc = mcdrop.wrap(model, masks="shared")
        expected = plain(mc, inputs, select="out")
        program = loaded(tmp_path / "m.pt2")
        agrees(program(**named) if example is named else program(*inputs), expected)


class Heads(nn.Module):
    """Returns what a task expects."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.net, self.task = mlp(), task

    def forward(self, x: Tensor) -> Any:
        out = self.net(x)
        if self.task == "heteroscedastic":
            return out[:, 0], out[:, 1]
        return out[:, :1] if self.task == "binary" else out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["heteroscedastic", "binary", "multilabel"])
def test_every_task_is_exported(task: Any, tmp_path: Path) -> None:
    model, x = Heads(task).eval(), torch.randn(5, 6)
    output_type: Any = "log_variance" if task == "heteroscedastic" else "logits"
    mcdrop.export(model, x, tmp_path / "m.pt2", task=task, output_type=output_type)
    mc = mcdrop.wrap(model, masks="shared")
    expected = plain(mc, x, task=task, output_type=output_type)
    agrees(loaded(tmp_path / "m.pt2")(x), expected)


@pytest.mark.slow
def test_a_program_runs_where_mcdrop_cannot_be_imported(tmp_path: Path) -> None:
    model, x = made("mlp")
    mcdrop.export(model, x, tmp_path / "m.pt2", task="regression")
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys; sys.modules['mcdrop'] = None\n"
        "import numpy as np, torch\n"
        "program = torch.export.load(sys.argv[1] + '/m.pt2').module()\n"
        "found = program(torch.from_numpy(np.load(sys.argv[1] + '/x.npy')))\n"
        "np.save(sys.argv[1] + '/std.npy', found['std'].detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
    mc = mcdrop.wrap(model, masks="shared")
    expected = plain(mc, x).std
    np.testing.assert_allclose(np.load(tmp_path / "std.npy"), expected.numpy(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "lstm"])
def test_onnx_returns_what_a_prediction_says(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = made(name)
    path = tmp_path / "model.onnx"
    mcdrop.export(model, x, path, task="classification")
    session = onnxruntime.InferenceSession(str(path))
    (given,) = [each.name for each in session.get_inputs()]
    assert given == ("input" if name in ("mlp", "cnn") else "x")
    rows = torch.randn(7, *x.shape[1:])
    outputs = session.run(None, {given: rows.numpy()})
    names = [each.name for each in session.get_outputs()]
    found = {n: torch.from_numpy(values) for n, values in zip(names, outputs, strict=True)}
    mc = mcdrop.wrap(model, masks="shared")
    agrees(found, plain(mc, rows, task="classification"))


class MixesRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(x)
        return h - h.mean(dim=0)


class DrawsItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + torch.randn_like(x)


class DropsWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = nn.functional.dropout(self.head.weight, 0.5, training=True)
        return nn.functional.linear(x, weight)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (MixesRows(), r"MixesRows, one whose rows cannot stand for passes: \w+ is off by"),
        (DrawsItself(), r"DrawsItself, random numbers that the model draws itself"),
        (DropsWeights(), r"DropsWeights, .*drops units of a tensor with no rows"),
    ],
)
def test_what_has_no_constant_masks_is_refused_by_name(
    model: nn.Module, text: str, tmp_path: Path
) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match=f"export: .*masks can be constants.*{text}"):
        mcdrop.export(model.eval(), torch.randn(5, 6), tmp_path / "m.pt2", task="regression")
    assert not list(tmp_path.iterdir())


def test_arguments_are_checked_before_anything_runs(tmp_path: Path) -> None:
    model, x = made("mlp")
    for path in (tmp_path / "m.pt", tmp_path / "no folder" / "m.pt2"):
        with pytest.raises(mcdrop.RangeError, match=r"`path` to be a \.pt2 or \.onnx file in a"):
            mcdrop.export(model, x, path, task="regression")
    with pytest.raises(mcdrop.RangeError, match=r"`n_samples` to be an integer of at least 2"):
        mcdrop.export(model, x, tmp_path / "m.pt2", n_samples=1, task="regression")
    with pytest.raises(mcdrop.RangeError, match=r"`example` to have two rows or more"):
        mcdrop.export(model, x[:1], tmp_path / "m.pt2", task="regression")
    with pytest.raises(mcdrop.NoDropoutError):
        mcdrop.export(nn.Linear(6, 1), x, tmp_path / "m.pt2", task="regression")


def test_a_wrapper_that_is_traced_points_here() -> None:
    model, x = made("mlp")
    with pytest.raises(mcdrop.UnsupportedError, match=r"mcdrop\.export\(model, example, path\)"):
        torch.export.export(mcdrop.wrap(model), (x,), strict=False)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"seed": -1}, mcdrop.RangeError, "`seed` to be an integer of at least 0, but got -1"),
        ({"path": None}, mcdrop.UnsupportedError, "`path` to name a file, but got None"),
        ({"example": torch.rand(4, 5)}, mcdrop.ShapeError, r"`inputs` to have a shape .*\(4, 5\)"),
        ({"example": torch.full((4, 6), torch.nan)}, mcdrop.NonFiniteError, ".* finite numbers"),
        ({"task": "binary"}, mcdrop.ShapeError, ".*for task='binary'"),
        ({"task": None}, mcdrop.RangeError, "`task` to be named for a model that returns several"),
    ],
)
def test_what_a_prediction_refuses_is_refused_in_its_words(
    options: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    model, x = made("mlp")
    given = {"example": x, "path": tmp_path / "m.pt2", "task": "classification", **options}
    with pytest.raises(error, match=f"^export: expected {text}") as raised:
        mcdrop.export(model, given.pop("example"), given.pop("path"), **given)
    assert str(raised.value).count("export: ") == 1
    assert not list(tmp_path.iterdir())
