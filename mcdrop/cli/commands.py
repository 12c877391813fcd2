"""The commands: each reads files, calls the library and prints where the results are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mcdrop import __version__
from mcdrop.cli.predicting import example_rows, passes_asked_for, read_rows
from mcdrop.cli.reading import check_writable, read_array, read_program
from mcdrop.errors import UnsupportedError
from mcdrop.prediction import load_prediction
from mcdrop.prediction.tables import checked_suffix
from mcdrop.report import calibration_report
from mcdrop.wrapper import wrap

__all__ = ["app"]

_TASKS = "regression, heteroscedastic, classification, binary or multilabel."

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _tell(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        typer.echo(f"mcdrop {__version__}")
        raise typer.Exit


@app.callback()
def mcdrop(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell, is_eager=True),
    ] = False,
) -> None:
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
    out: Annotated[
        Path, typer.Option(help="Prediction to write: .pt, .npz, .csv or .parquet.")
    ] = Path("prediction.pt"),
    task: Annotated[
        str | None, typer.Option(help=f"{_TASKS} Needed unless a row has one value.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the ids of rows.")] = None,
    n_samples: Annotated[str, typer.Option(help="Stochastic passes, or auto.")] = "100",
    masks: Annotated[str, typer.Option(help="independent, or shared by all rows.")] = "independent",
    batch_size: Annotated[int | None, typer.Option(help="Rows per forward call.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to run, such as cuda.")] = None,
    noise_std: Annotated[float | None, typer.Option(help="Observation noise, units of y.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same numbers.")] = None,
    keep_samples: Annotated[
        bool | None,
        typer.Option(
            help="Keep every pass, so that a report can score the mixture; unless auto, by default."
        ),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Also write a .csv table.")] = None,
) -> None:
    """Predict with uncertainty from an exported program."""
    check_writable(out, table)
    checked_suffix("mcdrop predict", out)
    passes = passes_asked_for(n_samples)
    # Names that are none of these are refused by name where they are used.
    kind: Any = task
    sharing: Any = masks
    prediction = wrap(read_program(model), masks=sharing).predict_with_uncertainty(
        read_rows(data, id_column),
        task=kind,
        n_samples=passes,
        noise_std=noise_std,
        seed=seed,
        batch_size=batch_size,
        device=device,
        keep_samples=passes != "auto" if keep_samples is None else keep_samples,
        progress=True,
    )
    prediction.save(out)
    typer.echo(f"{prediction}\nPrediction: {out}")
    if table is not None:
        prediction.to_pandas().to_csv(table, index=id_column is not None)
        typer.echo(f"Table: {table}")


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A program written by torch.export.save (.pt2).")],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A few inputs: .npy, .csv, .parquet or .pt; those of the export by default."
        ),
    ] = None,
) -> None:
    """List the dropout sites of a model: rate, shape, whether live, share of FLOPs before it."""
    table = Table("site", "kind", "rate", "order", "shape", "live", "FLOPs before")
    program = read_program(model)
    rows = example_rows(program) if data is None else read_array(data)
    for site in wrap(program).sites(rows):
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
