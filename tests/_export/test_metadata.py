"""Exported files say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop._export.metadata import facts, read_onnx_metadata
from mcdrop._files.programs import read_exported
from mcdrop.recalibration import StdScaling

NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 1)).eval()
X = torch.randn(4, 3)


def check(metadata: dict[str, Any] | None) -> None:
    assert metadata is not None
    assert metadata["format"] == "mcdrop.export/1"
    assert metadata["mcdrop"] == mcdrop.__version__
    assert (metadata["n_samples"], metadata["seed"], metadata["stratified"]) == (8, 5, True)
    assert metadata["sites"] == [{"name": "2", "kind": "dropout", "p": 0.25, "order": 0}]
    assert metadata["inputs"] == [{"name": "input", "dtype": "float32", "row_shape": [3]}]
    names = [each["name"] for each in metadata["outputs"]]
    assert names == ["mean", "std", "epistemic_std"]
    assert metadata["recalibration"] == [{"kind": "StdScaling", "factor": [2.0]}]
    lines = facts(metadata)
    assert lines["passes"] == "8, masks shared by all rows and baked in, stratified"
    assert lines["inputs"] == "input: float32 (rows, 3)"
    assert lines["dropout"] == "2 (dropout, rate 0.25)"
    assert lines["recalibration"] == "StdScaling (factor [2.0])"
    assert lines["rows repeated"] == "at the first dropout"
    assert lines["noise std"] == "0.5"


def options() -> dict[str, Any]:
    known = mcdrop.RegressionPrediction.from_mean_std(torch.zeros(1, 1), torch.ones(1, 1))
    scaling = StdScaling().fit(known, [2.0])
    return {"n_samples": 8, "seed": 5, "noise_std": 0.5, "recalibration": scaling}


def test_a_program_says_what_it_is(tmp_path: Path) -> None:
    mcdrop.export(NET, X, tmp_path / "m.pt2", **options())
    check(read_exported(tmp_path / "m.pt2")[1])


@pytest.mark.slow
def test_an_onnx_file_says_what_it_is(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    mcdrop.export(NET, X, tmp_path / "m.onnx", **options())
    check(read_onnx_metadata(tmp_path / "m.onnx"))
    plain = onnx.load(tmp_path / "m.onnx")
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    assert read_onnx_metadata(tmp_path / "plain.onnx") is None
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="Error parsing message"):
        read_onnx_metadata(tmp_path / "text.onnx")
