"""Rows with ids and the options of `mcdrop predict`, from files to files."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.cli import main
from mcdrop.cli.predicting import (
    check_kept,
    check_table,
    example_rows,
    is_streamed,
    only_id_column,
    passes_asked_for,
    read_rows,
    refuse_ray,
    two_files,
)

NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()
FOUR = nn.Sequential(nn.Dropout(0.4), nn.Linear(3, 4))


class Pair(nn.Module):
    """Returns a mean and the logarithm of a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.4), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.net(x).chunk(2, dim=-1)
        return mean, log_variance


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = torch.export.Dim("rows", min=2)
    free = torch.export.export(NET, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(free, "free.pt2")
    torch.export.save(torch.export.export(NET, (torch.randn(6, 3),)), "fixed.pt2")
    for name, net in (("four", FOUR), ("pair", Pair())):
        made = torch.export.export(net.eval(), (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
        torch.export.save(made, f"{name}.pt2")
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


@pytest.mark.parametrize("out", ["p.parquet", "p.csv", "p.npz"])
def test_tables_are_read_and_written_as_a_stream(
    out: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = ("--id-column", "name", "--id-column", "b", *(f"--column={name}" for name in "abc"))
    options = (*named, "--masks", "shared", "--n-samples", 16, "--batch-rows", 9)
    files = ("--model", "free.pt2", "--data", "x.parquet", "--out", out)
    assert run(monkeypatch, "predict", *files, *options) == 0
    assert f"Prediction: {out} (40 rows, 0 from before)" in capsys.readouterr().out
    table = pd.read_parquet("x.parquet")
    expected = mcdrop.predict_with_uncertainty(
        torch.export.load("free.pt2"), table[list("abc")], n_samples=16, masks="shared", seed=0
    )
    if out == "p.npz":
        with np.load(out, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    else:
        read = pd.read_csv(out) if out == "p.csv" else pd.read_parquet(out)
        found = {name: read[name].to_numpy() for name in read}
    assert list(found)[:3] == ["name", "b", "mean"]
    assert found["name"].tolist() == table["name"].tolist()
    np.testing.assert_allclose(found["std"].reshape(-1, 1), expected.std, rtol=1e-4, atol=1e-6)


def test_a_stream_that_was_stopped_goes_on_or_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv("x.csv").drop(columns="name")
    broken = table.copy()
    broken.loc[33, "a"] = np.nan
    broken.to_csv("y.csv", index=False)
    command = ("predict", "free.pt2", "y.csv", "--out", "p.csv", "--batch-rows", 10)
    assert run(monkeypatch, *command) == 2
    assert "nan in row 33, column 'a' of y.csv" in capsys.readouterr().err
    table.to_csv("y.csv", index=False)
    assert run(monkeypatch, *command, "--seed", 1) == 2
    assert "--seed 1 instead of 0" in capsys.readouterr().err
    assert run(monkeypatch, *command) == 0
    assert "p.csv (40 rows, 30 from before)" in capsys.readouterr().out
    assert run(monkeypatch, *command, "--seed", 1, "--no-resume") == 0


def test_a_full_disk_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run(monkeypatch, "predict", "free.pt2", "x.npy", "--out", "p.csv") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    kept = "finished rows are kept in p.csv.parts. Make room and run again."
    assert line.startswith("error: p.csv: No space left")
    assert line.endswith(kept)


def test_model_and_data_by_name_or_by_place() -> None:
    m, d = Path("m.pt2"), Path("d.csv")
    assert two_files([m, d], None, None) == (m, d)
    assert two_files([d], m, None) == two_files([m], None, d) == two_files([], m, d) == (m, d)
    for files, model in (([], None), ([m], None), ([m, d, d], None), ([d, d], m)):
        with pytest.raises(mcdrop.UnsupportedError, match="`--model` to come with --data"):
            two_files(files, model, None)


def test_what_goes_as_a_stream() -> None:
    assert is_streamed(Path("x.npz"), Path("p.CSV"))
    assert not is_streamed(Path("x.pt"), Path("p.csv"))
    assert not is_streamed(Path("x.csv"), Path("p.pt"))
    assert only_id_column(["id"], []) == "id"
    assert only_id_column([], []) is None
    with pytest.raises(mcdrop.UnsupportedError, match=r"`--id-column` to go with a table"):
        only_id_column(["id", "name"], [])
    with pytest.raises(mcdrop.UnsupportedError, match=r"`--column` to go with a table"):
        only_id_column(["id"], ["a"])


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


def test_an_archive_is_read_by_its_only_array_or_x(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.load("x.npy")
    np.savez("one.npz", u=rows)
    np.savez("several.npz", x=rows, y=rows[:, 0])
    np.savez("unnamed.npz", u=rows, y=rows[:, 0])
    found = []
    for name in ("x.npy", "one.npz", "several.npz"):
        assert run(monkeypatch, "predict", "free.pt2", name) == 0
        found.append(mcdrop.RegressionPrediction.load("prediction.pt").mean)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert run(monkeypatch, "predict", "free.pt2", "unnamed.npz") == 2
    assert "`file` to hold the array 'x', but got unnamed.npz" in capsys.readouterr().err


def test_a_model_of_means_and_variances_is_predicted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--task", "heteroscedastic", "--output-type", "log_variance", "--out", "p.csv")
    assert run(monkeypatch, "predict", "pair.pt2", "x.npy", *options) == 0
    assert (pd.read_csv("p.csv")["aleatoric_variance"] > 0).all()


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
        (("fixed.pt2", "x.npy"), "`--data` to have the shape that the program was exported for"),
        (("free.pt2", "x.npy", "--n-samples", "many"), "`--n-samples` to be a number or auto"),
        (("free.pt2", "x.npy", "--masks", "own"), '`--masks` to be one of "independent", "shared"'),
        (("free.pt2", "x.npy", "--device", "gpu"), "`--device` to be a device that torch can use"),
        (("free.pt2", "x.npy", "--out", "p.xls"), "`--out` to end in one of .pt, .npz, .csv"),
        (("free.pt2", "x.csv", "--out", "p.csv"), "name the column in `--id-column`, or leave it"),
        (
            ("free.pt2", "x.csv", "--out", "p.csv", "--id-column", "nam"),
            "`--id-column` to name diff",
        ),
        (
            ("free.pt2", "x.npy", "--out", "p.csv", "--n-samples", "1"),
            "`--n-samples` to be an inte",
        ),
        (("free.pt2", "x.npy", "--out", "p.csv", "--ray", "auto"), "pip install"),
        (
            ("free.pt2", "x.npy", "--n-samples", "auto", "--keep-samples"),
            "be left out with --n-sam",
        ),
        (("free.pt2", "x.npy", "--table", "t.txt"), "`--table` to end in .csv, but got t.txt"),
        (
            ("free.pt2", "x.npy", "--output-type", "odds"),
            "`--output-type` to be left out for a regressi",
        ),
        (("free.pt2", "x.npy", "--task", "classification"), "use --task binary; for real values"),
        (("four.pt2", "x.npy"), "Say --task classification for scores of classes, or --task regr"),
        (("pair.pt2", "x.npy", "--task", "heteroscedastic"), '`--output-type` to be one of "log_v'),
        (
            ("free.pt2", "x.npy", "--task", "heteroscedastic", "--output-type", "variance"),
            "but got Tensor. Export a model that returns it so.",
        ),
        (("free.pt2", "x.npy", "--task", "guess"), '`--task` to be one of "regression"'),
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
    assert err[-1].startswith("error: mcdrop predict: ")
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


def test_what_is_kept_and_written_beside() -> None:
    check_kept(None, "auto")
    check_kept(True, 100)
    check_table(None)
    check_table(Path("t.CSV"))
    with pytest.raises(mcdrop.UnsupportedError, match="be left out with --n-samples auto"):
        check_kept(True, "auto")
    with pytest.raises(mcdrop.UnsupportedError, match=r"`--table` to end in \.csv"):
        check_table(Path("t.parquet"))


def test_a_cluster_is_for_streams() -> None:
    refuse_ray(None)
    text = r"mcdrop predict: expected `--ray` to go with files that are read and written as a str"
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        refuse_ray("auto")
