"""Rows with ids and the options of `mcdrop predict`, from files to files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.cli import main
from mcdrop.cli.predicting import example_rows, passes_asked_for, read_rows

NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = torch.export.Dim("rows", min=2)
    free = torch.export.export(NET, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(free, "free.pt2")
    torch.export.save(torch.export.export(NET, (torch.randn(6, 3),)), "fixed.pt2")
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
    table.insert(1, "name", [f"row {i}" for i in range(40)])
    table.to_csv("x.csv", index=False)
    table.to_parquet("x.parquet")
    np.save("x.npy", table[list("abc")].to_numpy(np.float32))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mcdrop", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_come_out_with_the_rows_they_came_in_with(
    suffix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("free.pt2", f"x.{suffix}", "--id-column", "name", "--seed", 0)
    assert run(monkeypatch, "predict", *arguments, "--out", "p.csv", "--table", "t.csv") == 0
    expected = mcdrop.predict_with_uncertainty(
        NET, pd.read_csv("x.csv", index_col="name"), seed=0, keep_samples=True
    ).to_pandas()
    for name in ("p.csv", "t.csv"):
        found = pd.read_csv(name, index_col="name")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)


def test_options_reach_the_prediction(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--masks", "shared", "--batch-size", 16, "--device", "cpu", "--n-samples", 32)
    assert run(monkeypatch, "predict", "free.pt2", "x.npy", *options, "--seed", 3) == 0
    found = mcdrop.RegressionPrediction.load("prediction.pt")
    assert found.run is not None
    assert (found.run.masks, found.run.batch_size, found.run.seed) == ("shared", 16, 3)
    assert found.samples is not None
    assert found.samples.shape == (32, 40, 1)
    assert run(monkeypatch, "predict", "free.pt2", "x.npy", "--n-samples", "auto") == 0
    auto = mcdrop.RegressionPrediction.load("prediction.pt")
    assert auto.samples is None
    assert auto.passes_per_row is not None


def test_version_and_sites_need_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mcdrop {mcdrop.__version__}\n"
    for program in ("free.pt2", "fixed.pt2"):
        assert run(monkeypatch, "inspect", program) == 0
        assert "0.4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("free.pt2", "x.csv"), "`file` to hold numbers only, but got x.csv (columns 'name' (str"),
        (("free.pt2", "x.csv", "--id-column", "id"), "`--id-column` to be one of the columns of"),
        (("free.pt2", "x.npy", "--id-column", "id"), "`--id-column` to go with a table"),
        (("free.pt2", "x.csv", "--id-column", "a"), "hold numbers, but got column 'name' (str)"),
        (("fixed.pt2", "x.npy"), "`inputs` to have the shape that the program was exported for"),
        (("free.pt2", "x.npy", "--n-samples", "many"), "`--n-samples` to be a number or auto"),
        (("free.pt2", "x.npy", "--masks", "own"), '`masks` to be one of "independent", "shared"'),
        (("free.pt2", "x.npy", "--device", "gpu"), "`device` to be a device that torch can use"),
        (("free.pt2", "x.npy", "--out", "p.xls"), "`path` to end in one of .pt, .npz, .csv"),
        (("free.pt2", "x.npy", "--task", "guess"), '`task` to be one of "regression"'),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    arguments: tuple[str, ...],
    text: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "predict", *arguments) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("error: ")
    assert text in err[-1]


def test_what_is_read() -> None:
    assert passes_asked_for("auto") == "auto"
    assert passes_asked_for("7") == 7
    program = torch.export.export(NET, (torch.ones(6, 3),))
    (x,) = example_rows(program)
    assert torch.equal(x, torch.ones(6, 3))
    program.example_inputs = None
    with pytest.raises(mcdrop.UnsupportedError, match="a program that holds no example"):
        example_rows(program)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(mcdrop.UnsupportedError, match=r"be a \.parquet table, but got x\.parquet"):
        read_rows(tmp_path / "x.parquet", "a")
