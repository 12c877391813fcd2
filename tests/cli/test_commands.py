"""The command line, from files to files."""

from __future__ import annotations

import json
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.cli import main
from mcdrop.cli.commands import app


@pytest.fixture
def program(tmp_path: Path) -> Path:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(net, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line as a user would and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mcdrop", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_predict_then_report(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    pd.DataFrame(x, columns=list("abc")).to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({"target": x.sum(axis=1)}).to_parquet(tmp_path / "y.parquet")
    out, table = tmp_path / "p.pt", tmp_path / "p.csv"
    options = ("--out", out, "--noise-std", 1.0, "--seed", 0, "--table", table)
    assert run(monkeypatch, "predict", program, tmp_path / "x.csv", *options) == 0
    prediction = mcdrop.RegressionPrediction.load(out)
    assert prediction.run is not None
    assert (len(prediction), prediction.run.seed) == (40, 0)
    assert len(pd.read_csv(table)) == 40

    page, numbers = tmp_path / "r.html", tmp_path / "r.json"
    baseline = ("--baseline", f"again={out}")
    written = ("--html", page, "--json", numbers, "--column", "target", *baseline)
    assert run(monkeypatch, "report", out, tmp_path / "y.parquet", *written) == 0
    assert "<html" in page.read_text()
    assert json.loads(numbers.read_text())["schema"] == "mcdrop.calibration_report/2"
    assert f"Report: {page}" in capsys.readouterr().out


def test_inspect_lists_the_sites(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 3), dtype=np.float32))
    assert run(monkeypatch, "inspect", program, tmp_path / "x.npy") == 0
    printed = capsys.readouterr().out
    # 3 * 8 of 3 * 8 + 8 * 1 multiplications come before the dropout.
    assert "dropout" in printed
    assert "0.4" in printed
    assert "75.0%" in printed


def test_inspect_tells_what_is_baked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()
    mcdrop.export(net, torch.randn(6, 3), tmp_path / "net.pt2", n_samples=16, seed=3)
    assert run(monkeypatch, "inspect", tmp_path / "net.pt2") == 0
    printed = capsys.readouterr().out
    for text in ("16, masks shared", "float32 (rows, 3)", "epistemic_std", "2 (dropout, rate 0.4)"):
        assert text in printed
    np.save(tmp_path / "x.npy", np.ones((4, 3), np.float32))
    assert run(monkeypatch, "predict", tmp_path / "net.pt2", tmp_path / "x.npy") == 2
    assert "with the masks of 16 passes baked in" in capsys.readouterr().err
    onnx = tmp_path / "net.onnx"
    onnx.write_text("no model")
    assert run(monkeypatch, "inspect", onnx) == 2
    assert "expected `file` to be an ONNX file, but got net.onnx" in capsys.readouterr().err


EXAMPLES = {
    command.callback.__name__: (command.epilog or "").removeprefix("Example: ")
    for command in app.registered_commands
    if command.callback is not None
}


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_example_of_the_help_runs(
    command: str,
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: {EXAMPLES[command]}" in shown
    monkeypatch.chdir(program.parent)
    program.rename("model.pt2")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(30, 3)), columns=list("abc"))
    rows.assign(id=[f"r{i}" for i in range(30)]).to_csv("rows.csv", index=False)
    pd.DataFrame({"mean": rng.normal(size=30), "std": 1.0, "y": rng.normal(size=30)}).to_csv(
        "prediction.csv", index=False
    )
    line, _, _ = EXAMPLES[command].partition(" > ")
    name, *arguments = shlex.split(line)
    assert (name, arguments[0]) == ("mcdrop", command)
    assert run(monkeypatch, *arguments) == 0
    for option, file in pairwise(arguments):
        assert option not in ("--out", "--html") or Path(file).exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("predict", "net.pth", "x.npy"), "expected `file` to be a .pt2 file"),
        (("predict", "none.pt2", "x.npy"), "none.pt2: No such file"),
        (("report", "none.pt", "y.npy"), "No such file"),
        (("report", "p.pt", "y.txt"), "`file` to end in one of .npy, .npz, .pt, .csv, .parquet"),
        (
            ("report", "p.pt", "y.csv"),
            "have the column 'y' of --column, but got y.csv (columns 'target')",
        ),
        (("report", "p.pt", "y.npy", "--baseline", "x"), "`--baseline` to read NAME=FILE"),
        (
            ("report", "p.pt", "y.npy", "--baseline", "b=p.pt", "--baseline", "b=q.pt"),
            "`--baseline` to name each only once, but got 'b' twice",
        ),
        (
            ("report", "p.pt", "y.npy", "--accept", "rmse=1", "--accept", "rmse=2"),
            "`--accept` to name each only once, but got 'rmse' twice",
        ),
        (("report", "p.pt", "y.npy", "--html", "./y.npy"), "another file than those that are read"),
        (("report", "p.pt", "y.npy", "--json", "p.pt"), "another file than those that are read"),
        (
            ("report", "p.pt", "y.npy", "--baseline", "b=q.pt", "--card", "q.pt"),
            "another file than those that are read or written beside it, but got q.pt",
        ),
        (("report", "p.pt", "y.npy", "--html", "r", "--json", "r"), "another file than those"),
        (("predict", "m.pt2", "x.pt", "--out", "x.pt"), "another file than those that are read"),
        (("report", "none.csv"), "none.csv: No such file"),
        (("report", "head.csv"), "expected `file` to hold rows, but got head.csv (none in 'mean')"),
    ],
)
def test_mistakes_are_one_line_on_standard_error(
    arguments: tuple[str, ...],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    mcdrop.wrap(model).predict_with_uncertainty(torch.ones(4, 3)).save("p.pt")
    pd.DataFrame({"target": [1.0] * 4}).to_csv("y.csv", index=False)
    np.save("y.npy", np.ones(4))
    Path("head.csv").write_text("mean,std,y\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert len(err.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
