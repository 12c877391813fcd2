"""Predictions of a file of any size, in constant memory, that survive a kill at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.record import Masks, Run
from mcdrop._engine.settings import Settings
from mcdrop._files.columns import FUNCTION
from mcdrop._files.identity import model_digest
from mcdrop._files.joining import JOINERS
from mcdrop._files.passes import BlockPredictor
from mcdrop._files.programs import read_program
from mcdrop._files.streaming import open_source, stream
from mcdrop._files.workers import Predictions, Worker, here, on_ray
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.settings import Task, TaskSettings, controls, selection_of
from mcdrop._tasks.tolerance import Tolerated
from mcdrop.checks import require_count, require_installed
from mcdrop.errors import RangeError
from mcdrop.wrapper import MCDropout, wrap

__all__ = ["PredictedFile", "predict_file"]

StrPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True)
class PredictedFile:
    """A file of predictions that has been written.

    Attributes:
        path: The file.
        n_rows: Its rows, in the order of the data.
        n_kept: Rows among them that an earlier run had finished before it was stopped.
        seconds: Wall time of this run.
        run: How the passes of the last block ran; None if no rows were left to predict.
    """

    path: Path
    n_rows: int
    n_kept: int
    seconds: float
    run: Run | None


def predict_file(
    model: nn.Module | torch.export.ExportedProgram | StrPath,
    data: StrPath,
    out: StrPath,
    *,
    columns: Sequence[str] | None = None,
    id_columns: str | Sequence[str] = (),
    n_samples: int | Literal["auto"] = 100,
    task: Task | None = None,
    output_type: OutputType = "logits",
    select: str | int | None = None,
    noise_std: float | Tensor | None = None,
    seed: int = 0,
    masks: Masks | None = None,
    batch_rows: int | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tolerance: Tolerated = None,
    exact_last: bool = False,
    control_variate: bool | Literal["auto"] = "auto",
    progress: bool = False,
    resume: bool = True,
    ray: str | None = None,
) -> PredictedFile:
    """Predict every row of a file with uncertainty, in memory that does not grow with the file.

    Rows are read in blocks. Finished blocks are kept in the folder ``<out>.parts`` until all rows
    are done; then they are joined into `out`, which appears whole or not at all. A run that was
    stopped, even by SIGKILL, a full disk or a bad row, goes on when it is called again: no row is
    lost or predicted twice.

    Masks are independent for every row, and belong to seed, row number, dropout site and pass. So
    blocks of any size and resumed runs give the same numbers, to rounding, as one call of
    `predict_with_uncertainty` with that seed on all rows, on one process or many.

    Args:
        model: A model with dropout, `wrap(model, ...)`, or a .pt2 file written by
            `torch.export.save`.
        data: A .parquet file, a folder of them (in the order of their names, rows numbered on), a
            .csv file with a header, an .npz archive or an .npy array. Nothing is unpickled.
        out: A .parquet, .csv or .npz file to write, with the columns or arrays that `save` of a
            prediction writes, ids in front. An existing file is replaced.
        columns: Names of the inputs in the order in which the model takes them; by default every
            column that is no id. In an archive the name of one array, "x" by default.
        id_columns: Names of columns, or arrays of an archive, to copy beside the predictions.
        n_samples: As for `predict_with_uncertainty`.
        task: As for `predict_with_uncertainty`; it has to be named where the model returns several
            values per row.
        output_type: As for `predict_with_uncertainty`.
        select: Key or index of the output that is the prediction, if the model returns several.
        noise_std: As for `predict_with_uncertainty`.
        seed: Same seed, same numbers.
        masks: "independent" (by row number) or "shared" (one per pass for all rows); None for those
            of a wrapper, or independent ones.
        batch_rows: Rows per block, which are kept together; None for 65,536, or fewer where rows
            are wide.
        batch_size: Rows per forward call; None chooses.
        device: Where to run; None for where the model is.
        dtype: Floating point type to run in; None for the model's.
        tolerance: As for `predict_with_uncertainty`.
        exact_last: As for `predict_with_uncertainty`.
        control_variate: As for `predict_with_uncertainty`.
        progress: Show a progress bar on standard error.
        resume: Go on with finished parts of the same model, settings and rows, and refuse others.
            False discards them.
        ray: Address of a Ray cluster whose workers predict the blocks, "auto" for the one of this
            machine, or "local" for one that is started and stopped here; this process reads and
            writes. None predicts here.

    Returns:
        Where the predictions are and what was done; the predictions themselves are in the file.

    Raises:
        UnsupportedError: If a file is damaged or its inputs are no numbers; or if parts are there
            that were made by another model, other settings or other rows.
        RangeError: If a column is missing, or an option lies outside its range.
        NonFiniteError: If a cell is empty, NaN or infinite, or the model returns such; the text
            names file, row, row group and column.
        OutputError: If the model fails at a row, which the text names.
        OSError: If a file cannot be read or written; finished rows are kept.

    Example:
        >>> import tempfile, pandas
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> table = pandas.DataFrame({"id": ["a", "b", "c"], "u": [0.0, 1.0, 2.0], "v": 1.0})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table.to_csv(f"{folder}/in.csv", index=False)
        ...     done = predict_file(net, f"{folder}/in.csv", f"{folder}/out.csv", id_columns="id")
        ...     found = pandas.read_csv(f"{folder}/out.csv")
        >>> done.n_rows, list(found.columns[:3])
        (3, ['id', 'mean', 'epistemic_variance'])
    """
    began = time.perf_counter()
    require_installed(FUNCTION, "pyarrow", "files")
    require_count(FUNCTION, "seed", seed, 0)
    if batch_rows is not None:
        require_count(FUNCTION, "batch_rows", batch_rows)
    source_path, out_path = Path(data), _checked_out(Path(out), Path(data))
    ids = (id_columns,) if isinstance(id_columns, str) else tuple(id_columns)
    mc, program = _wrapped(model, masks)
    engine = Settings(
        FUNCTION,
        mc.model,
        mc.rates,
        mc.stochastic,
        mc.masks,
        mc.stratified,
        selection=selection_of(
            select,
            task,
            noise_std=noise_std,
            exact_last=exact_last,
            control_variate=control_variate,
        ),
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        **controls(task, output_type, control_variate, exact_last=exact_last, keep_samples=False),
    )
    asked = TaskSettings(engine, task, output_type, n_samples, noise_std, tolerance=tolerance)
    kept = _plain(mc, asked) | {"select": select, "columns": columns, "id_columns": ids}
    source = open_source(source_path, columns, ids)
    predictor = BlockPredictor(asked, source_path.name, source.place)
    with _predictions(predictor, program, ray) as predictions:
        done = stream(
            source,
            predictions,
            out_path,
            kept,
            batch_rows=batch_rows,
            resume=resume,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    return PredictedFile(out_path, done.n_rows, done.n_kept, seconds, done.run)


def _wrapped(
    model: nn.Module | torch.export.ExportedProgram | StrPath, masks: Masks | None
) -> tuple[MCDropout, torch.export.ExportedProgram | None]:
    """Return the wrapper of a model, and the program it is made of, if it is one."""
    if isinstance(model, MCDropout):
        mc = model
        if masks is not None:
            mc = MCDropout(model, masks=masks, stratified=model.stratified)
        return mc, None
    given = read_program(Path(model)) if isinstance(model, str | os.PathLike) else model
    program = given if isinstance(given, torch.export.ExportedProgram) else None
    return wrap(given, masks=masks or "independent"), program


def _predictions(
    predictor: BlockPredictor, program: torch.export.ExportedProgram | None, ray: str | None
) -> AbstractContextManager[Predictions]:
    """Return what predicts blocks: this process, or a cluster."""
    if ray is None:
        return nullcontext(here(predictor))
    require_installed(FUNCTION, "ray", "ray")
    return on_ray(ray, Worker.of(predictor.settings, program), predictor)


def _checked_out(out: Path, data: Path) -> Path:
    """Return the file to write; refuse another kind, a missing folder, and the data itself."""
    if out.suffix.lower() not in JOINERS or not out.parent.is_dir() or out.is_dir():
        raise RangeError.of(
            FUNCTION,
            "out",
            f"end in one of {', '.join(JOINERS)}, in a folder that exists",
            str(out),
            "Name the file predictions.parquet",
        )
    if data.is_dir() and out.resolve().parent == data.resolve():
        condition = "lie outside of the folder of `data`, whose files are read"
        raise RangeError.of(FUNCTION, "out", condition, str(out), "Name a file beside the folder")
    if out.exists() and data.exists() and out.samefile(data):
        raise RangeError.of(
            FUNCTION, "out", "be another file than `data`", str(out), "Name another file"
        )
    return out


def _plain(mc: MCDropout, asked: TaskSettings) -> dict[str, Any]:
    """Return what the numbers depend on besides the rows, as plain values with names."""
    engine, noise, tolerance = asked.engine, asked.noise_std, asked.tolerance
    return {
        "mcdrop": mcdrop.__version__,
        "model": model_digest(mc)[:32],
        "p": mc.rates,
        "masks": mc.masks,
        "stratified": mc.stratified,
        "stochastic": [each if isinstance(each, str) else each.__name__ for each in mc.stochastic],
        "task": asked.task,
        "output_type": asked.output_type,
        "n_samples": asked.n_samples,
        "noise_std": noise.tolist() if isinstance(noise, Tensor) else noise,
        "tolerance": dict(tolerance) if isinstance(tolerance, Mapping) else tolerance,
        "exact_last": engine.exact_last,
        "control_variate": engine.control_variate,
        "batch_size": engine.batch_size,
        "seed": int(engine.seed or 0),
        "dtype": None if engine.dtype is None else str(engine.dtype),
        # Another kind of device draws other masks.
        "device": engine.place().type,
    }
