"""Exported programs from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import UnsupportedError
from mcdrop._files.programs import read_exported, read_program


def test_a_program_comes_back(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).eval()
    x = torch.randn(4, 3)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    assert torch.equal(read_program(tmp_path / "net.pt2").module()(x), net(x))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"nothing of the kind")
    with pytest.raises(UnsupportedError, match=r"hold an exported program, but got net\.pt2"):
        read_program(tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=r"be a \.pt2 file, but got net\.pth"):
        read_program(tmp_path / "net.pth")


def test_a_program_without_dropout_to_sample_is_told_from_others(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)).eval()
    x = torch.randn(4, 3)
    mcdrop.export(net, x, tmp_path / "net.pt2", n_samples=8, seed=5, noise_std=0.5)
    program, metadata = read_exported(tmp_path / "net.pt2")
    assert sorted(program.module()(x)) == ["epistemic_std", "mean", "std"]
    assert metadata is not None
    text = (
        r"alive, but got net\.pt2 \(a program of mcdrop\.export, with the masks of 8 passes baked"
    )
    with pytest.raises(UnsupportedError, match=text):
        mcdrop.predict_file(tmp_path / "net.pt2", tmp_path / "x.csv", tmp_path / "out.csv")
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    assert read_exported(tmp_path / "net.pt2")[1] is None
