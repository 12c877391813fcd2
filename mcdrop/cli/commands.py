"""The commands: each reads files, calls the library and prints where the results are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mcdrop.cli.reading import check_writable, read_array, read_program
from mcdrop.errors import UnsupportedError
from mcdrop.prediction import load_prediction
from mcdrop.report import calibration_report
from mcdrop.wrapper import wrap

__all__ = ["app"]

_TASKS = "regression, heteroscedastic, classification, binary or multilabel."

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def mcdrop() -> None:
    """Bayesian uncertainty for PyTorch models with dropout."""


@app.command()
def report(
    prediction: Annotated[Path, typer.Argument(help="A prediction written by its save method.")],
    targets: Annotated[Path, typer.Argument(help="Targets: .npy, .csv, .parquet or .pt.")],
    column: Annotated[str, typer.Option(help="Column of the targets in a table.")] = "y",
    baseline: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE of another prediction; repeatable.")
    ] = None,
    html: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="File for every number.")] = None,
    title: Annotated[str, typer.Option(help="Heading.")] = "Calibration report",
) -> None:
    """Write the calibration report of a saved prediction."""
    check_writable(html, json)
    others = dict(_named_file(item) for item in baseline or [])
    result = calibration_report(
        load_prediction(prediction),
        read_array(targets, column),
        baselines={name: load_prediction(path) for name, path in others.items()},
        title=title,
    )
    typer.echo(result.to_markdown())
    typer.echo(f"Report: {result.to_html(html)}")
    if json is not None:
        typer.echo(f"Numbers: {result.to_json(json)}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A program written by torch.export.save (.pt2).")],
    data: Annotated[Path, typer.Argument(help="Inputs: .npy, .csv, .parquet or .pt.")],
    out: Annotated[Path, typer.Option(help="Prediction to write.")] = Path("prediction.pt"),
    task: Annotated[str, typer.Option(help=_TASKS)] = "regression",
    n_samples: Annotated[int, typer.Option(help="Stochastic passes.")] = 100,
    noise_std: Annotated[float | None, typer.Option(help="Observation noise, units of y.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same numbers.")] = None,
    keep_samples: Annotated[
        bool, typer.Option(help="Keep every pass, so that a report can score the mixture.")
    ] = True,
    table: Annotated[Path | None, typer.Option(help="Also write a .csv table.")] = None,
) -> None:
    """Predict with uncertainty from an exported program."""
    check_writable(out, table)
    prediction = wrap(read_program(model)).predict_with_uncertainty(
        read_array(data),
        task=task,  # type: ignore[call-overload]
        n_samples=n_samples,
        noise_std=noise_std,
        seed=seed,
        keep_samples=keep_samples,
        progress=True,
    )
    prediction.save(out)
    typer.echo(f"{prediction}\nPrediction: {out}")
    if table is not None:
        prediction.to_pandas().to_csv(table, index=False)
        typer.echo(f"Table: {table}")


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A program written by torch.export.save (.pt2).")],
    data: Annotated[Path, typer.Argument(help="A few inputs: .npy, .csv, .parquet or .pt.")],
) -> None:
    """List the dropout sites of a model: rate, shape, whether live, share of FLOPs before it."""
    table = Table("site", "kind", "rate", "order", "shape", "live", "FLOPs before")
    for site in wrap(read_program(model)).sites(read_array(data)):
        share = "" if site.flops_before is None else f"{site.flops_before:.1%}"
        shape = " x ".join(map(str, site.shape))
        live = "yes" if site.fired else "no"
        table.add_row(site.name, site.kind, f"{site.p:g}", str(site.order), shape, live, share)
    Console().print(table)


def _named_file(item: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    name, equals, path = item.partition("=")
    if not (name and equals and path):
        raise UnsupportedError.of(
            "mcdrop report", "--baseline", "read NAME=FILE", repr(item), "Name the method"
        )
    return name, Path(path)
