"""Exported programs from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mcdrop import UnsupportedError
from mcdrop._files.programs import read_program


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
