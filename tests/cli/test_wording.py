"""Texts of the library name options where a command is at fault, and nothing else changes."""

from __future__ import annotations

import sys

import pytest

from mcdrop.cli import main
from mcdrop.cli.commands import app
from mcdrop.cli.wording import command_of, in_words_of, options_of


def options(name: str) -> dict[str, str]:
    command = command_of(app, [name])
    assert command is not None
    return options_of(command)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        (
            "predict",
            "predict_file: expected `id_columns` to name columns of x.csv, but got ['i'].",
            "mcdrop predict: expected `--id-column` to name columns of x.csv, but got ['i'].",
        ),
        (
            "predict",
            "predict_with_uncertainty: expected `task` to be named, but got none. Say "
            "task='classification', n_samples=100 or keep_samples.",
            "mcdrop predict: expected `--task` to be named, but got none. Say "
            "--task classification, --n-samples 100 or --keep-samples.",
        ),
        (
            "report",
            'calibration_report: expected `baselines["a b"]` to match `prediction`, but got 3.',
            "mcdrop report: expected `--baseline a b` to match `prediction`, but got 3.",
        ),
        (
            "predict",
            "predict_file: expected `ray` to be installed, but got no such module.",
            "mcdrop predict: expected `ray` to be installed, but got no such module.",
        ),
        # The model and the data of `inspect` are arguments of the command, too.
        (
            "inspect",
            "sites: expected `inputs` to have rows, but got none.",
            "mcdrop inspect: expected `inputs` to have rows, but got none.",
        ),
        # Names within longer names stay.
        (
            "predict",
            "mcdrop predict: expected `file` to be my_task=1 or x.seed=2, but got out_columns.",
            "mcdrop predict: expected `file` to be my_task=1 or x.seed=2, but got out_columns.",
        ),
        ("predict", "something else", "something else"),
    ],
)
def test_a_text_in_the_words_of_a_command(command: str, text: str, expected: str) -> None:
    assert in_words_of(command, options(command), text) == expected


def test_options_are_those_of_the_command() -> None:
    assert options("report")["acceptance"] == "--accept"
    assert options("predict")["columns"] == "--column"
    assert "inputs" not in options("inspect")
    assert command_of(app, ["--version"]) is None


@pytest.mark.parametrize(
    ("option", "value"), [("--task", "regression"), ("--noise-std", "1"), ("--n-samples", "9")]
)
def test_options_of_programs_are_refused_where_they_would_change_nothing(
    option: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for given, found in (([], "the demonstration"), (["p.csv"], "p.csv")):
        monkeypatch.setattr(sys, "argv", ["mcdrop", "report", *given, option, value])
        with pytest.raises(SystemExit, match="2"):
            main()
        assert capsys.readouterr().err == (
            f"error: mcdrop report: expected `{option}` to go with a program (.pt2), whose passes "
            f"are run here, but got {found}. Leave it out: these predictions are made already.\n"
        )
