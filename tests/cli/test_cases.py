"""`mcdrop report` on every kind of file: pages where it can, one sentence where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mcdrop.cli.cases import FailIf
from tests.cli.test_reading import run
from tests.report.made import class_prediction, normal_prediction


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions and targets of 60 rows in one table, and apart; a program with its data."""
    prediction, y = normal_prediction(n=60)
    columns: dict[str, Any] = {
        "row": [f"r{i}" for i in range(60)],
        "mean": prediction.mean.numpy()[:, 0],
        "std": prediction.std.numpy()[:, 0],
        "y": y[:, 0],
        "site": np.arange(60) % 2,
    }
    pd.DataFrame(columns).to_csv(tmp_path / "p.csv", index=False)
    pd.DataFrame({"target": y[:, 0]}).to_parquet(tmp_path / "y.parquet")
    np.save(tmp_path / "y.npy", y[:, 0])
    probs, labels = class_prediction(n=60)
    np.savez(tmp_path / "c.npz", probs=probs.probs.numpy(), y=labels.numpy())
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)).eval()
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(net, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "net.pt2")
    x = np.random.default_rng(0).normal(size=(60, 3))
    table = pd.DataFrame(x, columns=list("abc")).assign(y=x.sum(axis=1), row=range(60))
    table.to_csv(tmp_path / "data.csv", index=False)
    np.savez(tmp_path / "data.npz", x=x, y=x.sum(axis=1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return found


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (("p.csv",), "regression"),
        (("p.csv", "y.npy"), "regression"),
        (("p.csv", "y.parquet", "--column", "target"), "regression"),
        (("c.npz",), "classification"),
        (("net.pt2", "data.csv", "--id-column", "row", "--noise-std", 1.0), "regression"),
        (("net.pt2", "data.npz", "--noise-std", 1.0, "--n-samples", 20), "regression"),
    ],
)
def test_every_kind_of_file_has_its_report(
    arguments: tuple[object, ...], task: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "report", *arguments, "--json", "r.json", "--card", "README.md") == 0
    found = numbers(folder)
    assert (found["task"], found["n_rows"]) == (task, 60)
    assert found["command"].startswith("mcdrop report ")
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "README.md").read_text().startswith("---\ntags:")


def test_ids_groups_and_a_second_data_set_reach_the_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "--id-column",
        "row",
        "--group",
        "site",
        "--shifted",
        "p.csv",
        "--baseline",
        "b=p.csv",
    )
    assert run(monkeypatch, "report", "p.csv", *options, "--json", "r.json") == 0
    found = numbers(folder)
    assert found["rows"][0]["rows"][0][0].startswith("r")
    assert {"site"} < {part["group"] for part in found["slices"]}
    assert found["shift"]["name"] == "p"
    assert found["shift"]["auroc"]["value"] == 0.5
    assert found["methods"][1]["name"] == "b"


def test_without_a_file_it_is_a_demonstration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "report", "--json", "r.json") == 0
    assert numbers(folder)["title"] == "Diabetes progression (demonstration)"
    assert [method["name"] for method in numbers(folder)["methods"]][1:] == ["Ridge", "Dropout off"]


@pytest.mark.parametrize(
    ("criterion", "fail_if", "code"),
    [
        ("rmse=100", "undecided", 0),
        ("rmse=0.001", "never", 0),
        ("rmse=0.001", "fail", 1),
        ("coverage_90=0.85:0.95", "fail", 0),
        ("coverage_90=0.85:0.95", "undecided", 1),
    ],
)
def test_criteria_give_an_exit_code_and_the_page_is_written_anyway(
    criterion: str, fail_if: str, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--accept", criterion, "--fail-if", fail_if)
    assert run(monkeypatch, "report", "p.csv", *options) == code
    assert (folder / "report.html").exists()


def test_only_what_was_asked_for_is_a_failure() -> None:
    assert [FailIf.fail.fails(o) for o in ("pass", "undecided", "fail", None)] == [
        False, False, True, False,
    ]  # fmt: skip
    assert FailIf.undecided.fails("undecided")
    assert not FailIf.never.fails("fail")


def short(name: str, folder: Path) -> None:
    np.save(folder / name, np.ones(40))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.csv",), "none.csv: No such file"),
        (("p.txt",), "`file` to end in one of .pt, .npz, .csv, .parquet, but got p.txt"),
        (("p.csv", "--column", "target"), "have the column 'target' of --column, but got p.csv"),
        (
            ("p.csv", "short.npy"),
            "have 60 rows, as the prediction has, but got short.npy (40 rows)",
        ),
        (("p.csv", "--group", "city"), "have the column 'city' of --group, but got p.csv"),
        (
            ("p.csv", "--accept", "coverage_90"),
            "`--accept` to read METRIC=LOW:HIGH or METRIC=BOUND",
        ),
        (("p.csv", "--accept", "covrage=0.9"), "`--accept` to name metrics among"),
        (("nan.csv",), "hold finite numbers in 'y', but got nan.csv (nan in row 1)"),
        (("text.csv",), "hold numbers in 'y', but got text.csv"),
        (("net.pt2",), "come with inputs and targets, but got net.pt2"),
        (("net.pt2", "data.npz", "--column", "t"), "have the column 't' of --column"),
        (("p.csv", "--html", "missing/r.html"), "be a file to write, but got r.html"),
    ],
)
def test_mistakes_are_one_sentence_with_exit_code_2_and_nothing_is_written(
    arguments: tuple[str, ...],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short("short.npy", folder)
    table: dict[str, Any] = {"mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]}
    pd.DataFrame(table | {"y": [1.0, None, 2.0]}).to_csv("nan.csv", index=False)
    pd.DataFrame(table | {"y": ["a", "b", "c"]}).to_csv("text.csv", index=False)
    (folder / "p.txt").write_text("mean,std\n1,2\n")
    before = set(folder.iterdir())
    assert run(monkeypatch, "report", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert set(folder.iterdir()) == before


def test_targets_of_other_rows_are_refused_by_their_ids(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv("p.csv")
    table.to_csv("y.csv", index=False, columns=["row", "y"])
    table[::-1].to_csv("turned.csv", index=False, columns=["row", "y"])
    assert run(monkeypatch, "report", "p.csv", "y.csv", "--id-column", "row") == 0
    assert run(monkeypatch, "report", "p.csv", "turned.csv", "--id-column", "row") == 2
    text = "have the ids of the prediction in 'row', but got turned.csv ('r59' for 'r0' in row 0)"
    assert text in capsys.readouterr().err
