"""The commands: each reads files, calls the library and prints where the results are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from mcdrop import __version__
from mcdrop._export.metadata import facts
from mcdrop._files.predict_file import predict_file
from mcdrop.cli.cases import FailIf, case_of_files, case_of_program, demonstrated
from mcdrop.cli.completion import Shell, completion_script
from mcdrop.cli.predicting import (
    check_kept,
    check_table,
    example_rows,
    inspected,
    is_streamed,
    only_id_column,
    passes_asked_for,
    read_rows,
    refuse_ray,
    two_files,
)
from mcdrop.cli.predictions import read_prediction
from mcdrop.cli.reading import check_writable, read_array, read_program
from mcdrop.errors import McdropError, UnsupportedError
from mcdrop.prediction.tables import checked_suffix
from mcdrop.report import calibration_report
from mcdrop.wrapper import wrap

__all__ = ["app"]

Item = TypeVar("Item")

_TASKS = "regression, heteroscedastic, classification, binary or multilabel."
_OUTPUT_TYPES = (
    "What the model returns: logits, probs or log_probs; as the second output of a heteroscedastic "
    "one, log_variance or variance."
)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _example(arguments: str) -> str:
    """Return the last line of a help text."""
    return f"Example: mcdrop {arguments}"


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


@app.command(epilog=_example("report prediction.csv --column y --html report.html"))
def report(
    prediction: Annotated[
        Path | None,
        typer.Argument(
            help="A saved prediction (.pt), or .npz, .csv or .parquet with mean and std, samples "
            "or probs; or a program (.pt2). Without any, a demonstration."
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Argument(
            help="Targets: .npy, .npz, .csv, .parquet or .pt; the prediction's file by default. "
            "For a program the table of its inputs and targets."
        ),
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the targets.")] = "y",
    id_column: Annotated[str | None, typer.Option(help="Column of the ids of rows.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Column to look into separately; repeatable.")
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE of another prediction; repeatable.")
    ] = None,
    shifted: Annotated[
        Path | None, typer.Option(help="Prediction for a second data set, without targets.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="METRIC=LOW:HIGH or METRIC=BOUND that has to be shown; repeatable."),
    ] = None,
    fail_if: Annotated[
        FailIf, typer.Option(help="Exit with code 1 if a criterion fails, or is not shown to pass.")
    ] = FailIf.never,
    task: Annotated[
        str | None, typer.Option(help=f"Of a program: {_TASKS} Regression by default.")
    ] = None,
    output_type: Annotated[str | None, typer.Option(help=f"Of a program: {_OUTPUT_TYPES}")] = None,
    n_samples: Annotated[
        int | None, typer.Option(min=2, help="Stochastic passes of a program, 100 by default.")
    ] = None,
    noise_std: Annotated[
        float | None, typer.Option(help="Observation noise of a program, units of y.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")] = 0,
    html: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="File for every number.")] = None,
    card: Annotated[Path | None, typer.Option(help="Model card to write.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading.")] = None,
) -> None:
    """Write the calibration report of predictions, with exit code 2 if a file is at fault."""
    others = _by_name("--baseline", map(_named_file, baseline or []))
    criteria = _by_name("--accept", map(_criterion, accept or []))
    check_writable(html, json, card, read=[prediction, targets, shifted, *others.values()])
    given = {
        "task": task, "output_type": output_type, "n_samples": n_samples, "noise_std": noise_std,
    }  # fmt: skip
    of_program = {name: value for name, value in given.items() if value is not None}
    is_program = prediction is not None and prediction.suffix == ".pt2"
    if of_program and not is_program:
        raise _only_of_programs(next(iter(of_program)), prediction)
    if prediction is None:
        case = demonstrated()
    elif is_program:
        options = {"task": "regression", "seed": seed, **of_program}
        aside = {*(group or []), *([id_column] if id_column else [])}
        case = case_of_program(prediction, targets, column, options, aside)
    else:
        case = case_of_files(prediction, targets, column, id_column)
    result = calibration_report(
        case.prediction,
        case.y,
        baselines=case.baselines
        | {name: read_prediction(path).prediction for name, path in others.items()},
        acceptance=criteria,
        groups={name: case.column(name, "--group") for name in group or []},
        ids=None if id_column is None else case.column(id_column, "--id-column"),
        shifted=None if shifted is None else {shifted.stem: read_prediction(shifted).prediction},
        title=title or case.title,
        command=shlex.join(["mcdrop", *sys.argv[1:]]),
        seed=seed,
    )
    typer.echo(result.to_markdown())
    typer.echo(f"Report: {result.to_html(html)}")
    if json is not None:
        typer.echo(f"Numbers: {result.to_json(json)}")
    if card is not None:
        result.to_model_card(card)
        typer.echo(f"Model card: {card}")
    if fail_if.fails(result.accepted):
        typer.echo(f"error: acceptance criteria: {result.accepted}", err=True)
        raise typer.Exit(1)


@app.command(
    epilog=_example("predict --model model.pt2 --data rows.csv --out out.csv --id-column id")
)
def predict(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="MODEL DATA", help="In place of --model and --data, in this order."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A program written by torch.export.save (.pt2).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Inputs: .csv, .parquet, .npz, .npy or .pt.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Prediction to write: .parquet, .csv or .npz, written as the data are read, in "
            "constant memory; or .pt, which holds the samples for a report."
        ),
    ] = Path("prediction.pt"),
    task: Annotated[
        str | None, typer.Option(help=f"{_TASKS} Needed unless a row has one value.")
    ] = None,
    output_type: Annotated[str | None, typer.Option(help=_OUTPUT_TYPES)] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column that is an input; repeatable. All but the ids by default."),
    ] = None,
    id_column: Annotated[
        list[str] | None, typer.Option(help="Column to copy beside the predictions; repeatable.")
    ] = None,
    n_samples: Annotated[str, typer.Option(help="Stochastic passes, or auto.")] = "100",
    masks: Annotated[str, typer.Option(help="independent, or shared by all rows.")] = "independent",
    batch_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a finished part.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows per forward call.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to run, such as cuda.")] = None,
    noise_std: Annotated[float | None, typer.Option(help="Observation noise, units of y.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")] = 0,
    resume: Annotated[
        bool, typer.Option(help="Go on where a run with the same files and options was stopped.")
    ] = True,
    keep_samples: Annotated[
        bool | None,
        typer.Option(
            help="Keep every pass, so that a report can score the mixture; for .pt by default, "
            "unless the number of passes is auto."
        ),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Also write a .csv table.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster whose workers predict; auto for the one of this machine, local for "
            "one of its own. The numbers stay the same.",
        ),
    ] = None,
) -> None:
    """Predict with uncertainty from an exported program."""
    program, rows = two_files(files or [], model, data)
    check_writable(out, table, read=[program, rows])
    check_table(table)
    passes = passes_asked_for(n_samples)
    check_kept(keep_samples, passes)
    # Names that are none of these are refused by name where they are used.
    kind: Any = task
    sharing: Any = masks
    options: dict[str, Any] = {
        "n_samples": passes,
        "noise_std": noise_std,
        "seed": seed,
        "batch_size": batch_size,
        "device": device,
        "progress": True,
    }
    if output_type is not None:
        options["output_type"] = output_type
    if is_streamed(rows, out) and not keep_samples and table is None:
        done = predict_file(
            program,
            rows,
            out,
            columns=column,
            id_columns=id_column or (),
            task=kind,
            masks=sharing,
            batch_rows=batch_rows,
            resume=resume,
            ray=ray,
            **options,
        )
        typer.echo(f"Prediction: {done.path} ({done.n_rows:,} rows, {done.n_kept:,} from before)")
        return
    checked_suffix("mcdrop predict", out)
    refuse_ray(ray)
    mc = wrap(read_program(program), masks=sharing)
    names = only_id_column(id_column or [], column or [])
    keep = passes != "auto" if keep_samples is None else keep_samples
    prediction = mc.predict_with_uncertainty(
        read_rows(rows, names), task=kind, keep_samples=keep, **options
    )
    prediction.save(out)
    typer.echo(f"{prediction}\nPrediction: {out}")
    if table is not None:
        prediction.to_pandas().to_csv(table, index=names is not None)
        typer.echo(f"Table: {table}")


@app.command(epilog=_example("inspect model.pt2"))
def inspect(
    model: Annotated[
        Path,
        typer.Argument(
            help="A program written by torch.export.save or mcdrop.export (.pt2, .onnx)."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A few inputs: .npy, .npz, .csv, .parquet or .pt; those of the export by default."
        ),
    ] = None,
) -> None:
    """List the dropout sites of a model: rate, shape, whether live, share of FLOPs before it.

    Of a program of mcdrop.export: its passes, seed, inputs, outputs and recalibration.
    """
    program, metadata = inspected(model)
    if program is None or metadata is not None:
        table = Table("of the program", "", show_lines=True)
        for name, value in facts(metadata or {}).items():
            table.add_row(name, value)
        Console().print(table)
        return
    table = Table("site", "kind", "rate", "order", "shape", "live", "FLOPs before")
    rows = example_rows(program) if data is None else read_array(data)
    for site in wrap(program).sites(rows):
        share = "" if site.flops_before is None else f"{site.flops_before:.1%}"
        shape = " x ".join(map(str, site.shape))
        live = "yes" if site.fired else "no"
        table.add_row(site.name, site.kind, f"{site.p:g}", str(site.order), shape, live, share)
    Console().print(table)
    if not table.row_count:
        typer.echo("No dropout is called in its forward pass: predictions would have no spread.")


@app.command(epilog=_example("completion bash > mcdrop.bash && source mcdrop.bash"))
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to complete for.")],
) -> None:
    """Print a script that completes commands, options and choices when Tab is pressed.

    It starts no Python. To have it in every shell, write it to
    ~/.local/share/bash-completion/completions/mcdrop, to a file _mcdrop in a folder of zsh's fpath,
    or to ~/.config/fish/completions/mcdrop.fish.
    """
    typer.echo(completion_script(app, shell), nl=False)


def _only_of_programs(name: str, prediction: Path | None) -> McdropError:
    """Return the error about an option that would change nothing."""
    found = "the demonstration" if prediction is None else prediction.name
    return UnsupportedError.of(
        "mcdrop report",
        f"--{name.replace('_', '-')}",
        "go with a program (.pt2), whose passes are run here",
        found,
        "Leave it out: these predictions are made already",
    )


def _by_name(option: str, items: Iterable[tuple[str, Item]]) -> dict[str, Item]:
    """Return values by name; refuse a name that is given twice, of which one would be lost."""
    found: dict[str, Item] = {}
    for name, value in items:
        if name in found:
            raise UnsupportedError.of(
                "mcdrop report", option, "name each only once", f"{name!r} twice", "Rename one"
            )
        found[name] = value
    return found


def _criterion(item: str) -> tuple[str, float | tuple[float, float]]:
    """Split METRIC=LOW:HIGH or METRIC=BOUND."""
    name, equals, text = item.partition("=")
    try:
        bounds = [float(end) for end in text.split(":")]
    except ValueError:
        bounds = []
    if not (name and equals and len(bounds) in (1, 2)):
        condition = "read METRIC=LOW:HIGH or METRIC=BOUND"
        raise UnsupportedError.of(
            "mcdrop report", "--accept", condition, repr(item), "Write coverage_90=0.85:0.95"
        )
    return name, bounds[0] if len(bounds) == 1 else (bounds[0], bounds[1])


def _named_file(item: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    name, equals, path = item.partition("=")
    if not (name and equals and path):
        raise UnsupportedError.of(
            "mcdrop report", "--baseline", "read NAME=FILE", repr(item), "Name the method"
        )
    return name, Path(path)
