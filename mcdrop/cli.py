"""The command line: reads files, calls the library, prints where the results are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mcdrop.errors import McdropError, UnsupportedError
from mcdrop.prediction import load_prediction
from mcdrop.report import calibration_report

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def mcdrop() -> None:
    """Bayesian uncertainty for PyTorch models with dropout."""


@app.command()
def report(
    prediction: Annotated[Path, typer.Argument(help="A prediction written by its save method.")],
    targets: Annotated[Path, typer.Argument(help="What happened: .npy, .csv, .parquet or .pt.")],
    column: Annotated[str, typer.Option(help="Column of the targets in a table.")] = "y",
    baseline: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE of another prediction; repeatable.")
    ] = None,
    html: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="File for every number.")] = None,
    title: Annotated[str, typer.Option(help="Heading.")] = "Calibration report",
) -> None:
    """Write the calibration report of a saved prediction."""
    others = dict(_named_file(item) for item in baseline or [])
    result = calibration_report(
        load_prediction(prediction),
        _read_targets(targets, column),
        baselines={name: load_prediction(path) for name, path in others.items()},
        title=title,
    )
    typer.echo(result.to_markdown())
    typer.echo(f"Report: {result.to_html(html)}")
    if json is not None:
        typer.echo(f"Numbers: {result.to_json(json)}")


def main() -> None:
    """Run the command line; what goes wrong on purpose is one line on standard error."""
    try:
        app()
    except (McdropError, FileNotFoundError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _named_file(item: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    name, equals, path = item.partition("=")
    if not (name and equals and path):
        raise UnsupportedError.of(
            "mcdrop report", "--baseline", "read NAME=FILE", repr(item), "Name the method"
        )
    return name, Path(path)


def _read_targets(path: Path, column: str) -> Any:
    """Read targets from a file, by its suffix."""
    readers: dict[str, Callable[[], Any]] = {
        ".npy": lambda: np.load(path, allow_pickle=False),
        ".pt": lambda: torch.load(path, map_location="cpu", weights_only=True),
        ".csv": lambda: _read_column(path, column),
        ".parquet": lambda: _read_column(path, column),
    }
    if path.suffix not in readers:
        raise UnsupportedError.of(
            "mcdrop report",
            "targets",
            f"end in one of {', '.join(readers)}",
            path.name,
            "Save the targets in one of these formats",
        )
    return readers[path.suffix]()


def _read_column(path: Path, column: str) -> Any:
    """Read one column of a table."""
    try:
        from pyarrow import csv, parquet
    except ModuleNotFoundError as error:
        raise UnsupportedError.of(
            "mcdrop report",
            "targets",
            "be readable",
            f"{path.name} without pyarrow",
            "Install it: pip install 'mcdrop[files]'",
        ) from error
    table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    if column not in table.column_names:
        raise UnsupportedError.of(
            "mcdrop report",
            "--column",
            f"be one of {table.column_names}",
            repr(column),
            "Name the column that holds the targets",
        )
    return table[column].to_numpy()
