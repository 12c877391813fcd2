"""Files are written whole or not at all."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._export.writing import writer
from tests._export.models import made


def test_the_suffix_names_the_writer(tmp_path: Path) -> None:
    assert writer("export", tmp_path / "m.pt2") is not writer("export", str(tmp_path / "m.onnx"))
    with pytest.raises(mcdrop.RangeError, match=r"but got .*m\.txt.*Name the file model\.pt2"):
        writer("export", tmp_path / "m.txt")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(program: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch.export, "save", full)
    model, x = made("mlp")
    (tmp_path / "m.pt2").write_text("before")
    with pytest.raises(OSError, match="no space left"):
        mcdrop.export(model, x, tmp_path / "m.pt2", task="regression")
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt2"]
    assert (tmp_path / "m.pt2").read_text() == "before"


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(x)
        return h if bool((x.abs().sum(dim=-1) >= 0).all()) else -h


def test_what_the_exporter_cannot_follow_is_refused_by_name(tmp_path: Path) -> None:
    level = logging.getLogger("torch.export").level
    with pytest.raises(mcdrop.UnsupportedError, match=r"one that torch\.export can write"):
        mcdrop.export(Branches().eval(), torch.randn(5, 6), tmp_path / "m.pt2", task="regression")
    assert logging.getLogger("torch.export").level == level


def test_onnx_without_its_packages_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model, x = made("mlp")
    with pytest.raises(mcdrop.UnsupportedError, match=r'pip install "mcdrop\[onnx\]"'):
        mcdrop.export(model, x, tmp_path / "m.onnx", task="regression")
