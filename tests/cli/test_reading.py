"""Files that are damaged, of another kind or out of reach: one sentence that names the file."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.cli import main
from mcdrop.cli.reading import read_array


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mcdrop", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program, inputs, targets and a prediction, all of them good."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).eval()
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(net, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "net.pt2")
    np.save(tmp_path / "x.npy", np.ones((4, 3), dtype=np.float32))
    np.save(tmp_path / "y.npy", np.ones(4))
    mcdrop.wrap(net).predict_with_uncertainty(torch.randn(4, 3), seed=0).save(tmp_path / "p.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("this is no such file\n" * 5)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def removed(path: Path) -> None:
    path.unlink()


def pickled(path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (exec, ("raise SystemExit('executed')",))

    torch.save({"format": "mcdrop/1/RegressionPrediction", "x": Evil()}, path)


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


HARMS = [truncated, emptied, text, directory, removed, pickled, other_zip]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["net.pt2", "x.npy", "y.npy", "p.pt"])
def test_harmed_files_are_one_sentence_that_names_them(
    name: str,
    harm: Callable[[Path], None],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    harm(folder / name)
    command = ("predict", "net.pt2", "x.npy") if name in {"net.pt2", "x.npy"} else None
    assert run(monkeypatch, *(command or ("report", "p.pt", "y.npy"))) == 2
    err = capfd.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: ")
    assert name in err
    assert "executed" not in err
    assert not (folder / "prediction.pt").exists()
    assert not (folder / "report.html").exists()


TABLES: dict[str, tuple[str, str]] = {
    "text column": ("id,a,b\nx,1,2\ny,3,4\n", "hold numbers only, but got t.csv (columns 'id'"),
    "mixed column": ("a,b,c\n1,2,3\n4,five,6\n", "columns 'b'"),
    "dates": ("a,b,when\n1,2,2026-01-01\n", "columns 'when'"),
    "twice": ("a,a,b\n1,2,3\n", "different names, but got t.csv (['a'] twice)"),
    "ragged": ("a,b,c\n1,2,3\n4,5\n", "be a .csv file of numbers, but got t.csv"),
    "no rows": ("a,b,c\n", "have rows and columns"),
    "binary": ("\x00\x01\x02", "t.csv"),
}


@pytest.mark.parametrize(("content", "found"), TABLES.values(), ids=TABLES.keys())
def test_tables_that_hold_no_numbers_say_which_column(
    content: str,
    found: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "t.csv").write_text(content)
    assert run(monkeypatch, "predict", "net.pt2", "t.csv") == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert found in err[0]


@pytest.mark.parametrize("out", ["missing/p.pt", ".", "/proc/p.pt"])
def test_places_that_cannot_be_written_are_refused_before_any_work(
    out: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mcdrop.cli.commands.wrap", lambda *_: pytest.fail("work was done"))
    if out == "/proc/p.pt":
        monkeypatch.setattr("mcdrop.cli.reading._may_write", lambda _: False)
    assert run(monkeypatch, "predict", "net.pt2", "x.npy", "--out", out) == 2
    assert "expected `file` to be" in capsys.readouterr().err


def tampered(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    record = torch.load(path, weights_only=True)
    change(record)
    torch.save(record, path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: r.pop("run"), "KeyError: 'run'"),
        (lambda r: r.update(run="{"), "JSONDecodeError"),
        (lambda r: r.update(run=json.dumps({"seed": 1})), "KeyError"),
        (lambda r: r.update(plain="[]"), "TypeError"),
        (lambda r: r["tensors"].pop("mean"), "missing 1 required keyword-only argument: 'mean'"),
        (lambda r: r["tensors"].update(mean=torch.zeros(3, 1)), "different numbers of rows"),
        (lambda r: r["tensors"].update(more=torch.zeros(4, 1)), "unexpected keyword argument"),
        (lambda r: r.update(tensors=3), "TypeError"),
    ],
)
def test_tampered_predictions_are_refused(
    change: Callable[[dict[str, Any]], None], found: str, folder: Path
) -> None:
    tampered(change, folder / "p.pt")
    with pytest.raises(mcdrop.UnsupportedError, match="hold a whole RegressionPrediction") as error:
        mcdrop.load_prediction(folder / "p.pt")
    assert found in str(error.value)
    assert "p.pt" in str(error.value)


def test_arrays_are_read_by_suffix(folder: Path) -> None:
    expected = np.arange(6.0).reshape(3, 2)
    pd.DataFrame(expected, columns=["a", "b"]).to_csv("t.csv", index=False)
    pd.DataFrame(expected, columns=["a", "b"]).to_parquet("t.parquet")
    np.save("t.npy", expected)
    torch.save(torch.from_numpy(expected), "t.pt")
    for name in ("t.csv", "t.parquet", "t.npy", "t.pt"):
        np.testing.assert_array_equal(np.asarray(read_array(folder / name)), expected)
    np.testing.assert_array_equal(read_array(folder / "t.csv", "b"), expected[:, 1])
