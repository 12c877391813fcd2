"""`export`: dropout that survives in a program which draws nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from mcdrop._engine.outputs import Select, Selection
from mcdrop._engine.settings import Settings
from mcdrop._export.exporter import Exporter, Job
from mcdrop._export.jobs import Estimator, example_of, job_of_estimator, job_of_model
from mcdrop._export.recalibrating import Recalibration, steps_of
from mcdrop._export.writing import writer
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.settings import Task, TaskSettings
from mcdrop.checks import require_count
from mcdrop.errors import UnsupportedError
from mcdrop.wrapper import MCDropout, wrap

__all__ = ["export"]

_FUNCTION = "export"
# Passes of a model: two full strata, as 16 passes are one.
_PASSES = 32


def export(
    model: nn.Module | MCDropout | Estimator,
    example: Any,
    path: str | os.PathLike[str],
    *,
    n_samples: int | None = None,
    seed: int | None = None,
    task: Task | None = None,
    output_type: OutputType = "logits",
    select: Select = None,
    noise_std: float | Tensor | None = None,
    recalibration: Recalibration | Sequence[Recalibration] | None = None,
) -> None:
    """Write a model with its stochastic passes as one program without any random numbers.

    The masks of `n_samples` passes, which all rows share, become constants. The program takes any
    number of rows and needs neither mcdrop nor the code of the model. It returns what
    ``predict_with_uncertainty(..., seed=seed, control_variate=False)`` of
    ``wrap(model, masks="shared")`` returns, to rounding, then recalibrated if asked for. What comes
    before the first dropout runs once where the model allows it. What the program is lies beside
    it in the file, for ``mcdrop inspect``.

    Args:
        model: A model with dropout, or `wrap(model, ...)`, whose rates, strata and `stochastic`
            then hold; or a fitted `MCDropoutRegressor` or `MCDropoutClassifier`, whose scales,
            members, noise, passes and seed hold, and whose predictions the program returns.
        example: Inputs of the kind and shapes that the program is to take: a tensor, array or
            data frame (one argument of the model), a tuple (positional) or a dict (keywords).
            Dimension 0 counts rows, of which there must be two or more.
        path: File to write; ".pt2" for `torch.export`, ".onnx" for ONNX.
        n_samples: Passes, S >= 2; None for 32, or for those of an estimator. 16 or more for
            stratified ones to pay.
        seed: Same seed, same masks; None for 0, or for that of an estimator.
        task: As for `predict_with_uncertainty`; None for the regression of one value per row.
        output_type: As for `predict_with_uncertainty`.
        select: As for `predict_with_uncertainty`.
        noise_std: As for `predict_with_uncertainty`.
        recalibration: A fitted `TemperatureScaling`, `StdScaling`, `ConformalRegressor` (adds
            `lower` and `upper`) or `ConformalClassifier` (adds `prediction_set`), or several in
            the order in which they were fitted.

    Raises:
        UnsupportedError: If masks cannot be constants (the model draws random numbers of its own,
            mixes rows, or branches on values), if the exporter cannot write the model, if a
            recalibration needs more than the program returns, or if `path` has another suffix.
        NoDropoutError: If nothing in the model became random.

    Source:
        Baked masks are the "consistent" MC dropout of Kirsch, van Amersfoort & Gal (2019),
        "BatchBALD", section 4.

    Example:
        >>> import tempfile
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> x = torch.rand(5, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(net, x, f"{folder}/net.pt2")
        ...     program = torch.export.load(f"{folder}/net.pt2").module()
        >>> sorted(program(x))
        ['epistemic_std', 'mean', 'std']
    """
    write = writer(_FUNCTION, path)
    if n_samples is not None:
        require_count(_FUNCTION, "n_samples", n_samples, 2)
    if seed is not None:
        require_count(_FUNCTION, "seed", seed, 0)
    if isinstance(model, Estimator):
        said = {"task": task, "select": select, "noise_std": noise_std}
        _leave_out(model, {**said, "output_type": None if output_type == "logits" else output_type})
        check_is_fitted(model, "module_")
        steps = steps_of(_FUNCTION, recalibration, members=True)
        job = job_of_estimator(_FUNCTION, model, n_samples, seed, steps)
        example = example_of(model, example)
    else:
        passes, first = _PASSES if n_samples is None else n_samples, 0 if seed is None else seed
        engine = replace(_engine(model, task, select, noise_std, first), n_samples=passes)
        asked = TaskSettings(engine, task, output_type, passes, noise_std)
        job = _job(asked, recalibration)
    with torch.no_grad():
        exporter = Exporter(job, example)
        program = exporter.program()
        metadata = exporter.metadata(program)
        write(_FUNCTION, program, exporter.batch, Path(path), exporter.check, metadata)


def _engine(
    model: nn.Module, task: Task | None, select: Select, noise_std: object, seed: int
) -> Settings:
    """Return how the passes of a model run."""
    mc = MCDropout(wrap(model), masks="shared", stratified=getattr(model, "stratified", True))
    selection = Selection(
        select,
        is_pair=task == "heteroscedastic",
        is_single=task is None and noise_std is None,
    )
    return Settings(
        _FUNCTION,
        mc.model,
        mc.rates,
        mc.stochastic,
        "shared",
        mc.stratified,
        selection=selection,
        seed=seed,
        device="cpu",
    )


def _job(asked: TaskSettings, recalibration: object) -> Job:
    """Return what is exported of a model, whose passes are kept if a recalibration needs them."""
    steps = steps_of(_FUNCTION, recalibration)
    return job_of_model(replace(asked, keep_samples=steps.need_samples), steps)


def _leave_out(estimator: Estimator, options: dict[str, Any]) -> None:
    """Refuse what an estimator says itself."""
    for name, value in options.items():
        if value is not None:
            raise UnsupportedError.of(
                _FUNCTION,
                name,
                f"be left out for a {type(estimator).__name__}, which says it itself",
                repr(value),
                "Leave it out, or export its module_",
            )
