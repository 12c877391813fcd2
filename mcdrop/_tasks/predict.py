"""Runs the passes of a prediction and puts the results of its batches together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.arrays import is_pandas
from mcdrop._engine.batch import Batch
from mcdrop._engine.groups import Rates
from mcdrop._engine.record import Run
from mcdrop._engine.schedule import Schedule
from mcdrop._engine.settings import ClosedFormLostError, Settings
from mcdrop._tasks.accumulate import Accumulator, SampleAccumulator, joined_samples
from mcdrop._tasks.home import Home
from mcdrop._tasks.settings import TaskSettings
from mcdrop._tasks.tiles import joined
from mcdrop._tasks.tolerance import (
    CHECKPOINTS,
    PredictionT,
    SettledRows,
    Tolerance,
    in_row_order,
    warn_of_rare_drops,
)
from mcdrop._tasks.worth import with_worth
from mcdrop.errors import NonFiniteError
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["predict", "sample"]

Result = TypeVar("Result")

# Passes that are alike differ by rounding in float64; passes in float32 by 1e-7 at least.
_ROUNDING = 1e-12

# Results of so many batches are joined as they come: many small tensors fragment the heap.
_JOINED = 16


def predict(settings: TaskSettings, inputs: Any) -> RegressionPrediction | ClassificationPrediction:
    """Predict with the passes that the settings ask for.

    Args:
        settings: The task and how its passes run.
        inputs: Whatever `InputReader` takes.
    """
    index = getattr(inputs, "index", None) if is_pandas(inputs) else None
    try:
        return _named(_predicted(settings, inputs), index)
    except ClosedFormLostError:
        by_itself = settings.engine.exact_last == "auto" or settings.engine.redraws
        if not by_itself or isinstance(inputs, Iterator):
            raise
    # The model is another one for these inputs than it was on first use.
    engine = replace(settings.engine, exact_last=False, redraws=False)
    return _named(_predicted(replace(settings, engine=engine), inputs), index)


def _predicted(
    settings: TaskSettings, inputs: Any
) -> RegressionPrediction | ClassificationPrediction:
    if settings.is_regression:
        return _predict(settings, inputs, settings.regression)
    return _predict(settings, inputs, settings.classification)


def _named(
    prediction: RegressionPrediction | ClassificationPrediction, index: Any
) -> RegressionPrediction | ClassificationPrediction:
    """Return the prediction with the index of its rows, where there is one label for each."""
    if index is None or len(index) != len(prediction):
        return prediction
    return replace(prediction, index=index)


def sample(settings: Settings, inputs: Any, n_samples: int) -> tuple[Tensor, Run]:
    """Keep every pass: return them, (S, N, ...), and the record of the run.

    Args:
        settings: How the passes run.
        inputs: Whatever `InputReader` takes.
        n_samples: Passes per row.
    """
    return _run(
        settings,
        inputs,
        n_samples,
        lambda row, *_: SampleAccumulator(settings.function, row),
        joined_samples,
    )


def _predict(
    settings: TaskSettings,
    inputs: Any,
    make: Callable[[int, bool, Rates], Accumulator[PredictionT]],
) -> PredictionT:
    """Run a number of passes, or as many as the tolerance asks for."""
    home = Home()
    make = home.accumulating(make)
    if settings.n_samples == "auto":
        stop: Tolerance[PredictionT] = Tolerance(
            settings.engine.function, settings.tolerance, settings.is_regression
        )
        return home.send(_run_until_settled(settings.engine, inputs, make, stop))
    whole, run = _run(settings.engine, inputs, settings.n_samples, make, joined)
    _warn_of_no_spread(settings.engine.function, whole, run)
    return home.send(replace(whole, run=with_worth(run, whole)))


def _warn_of_no_spread(
    function: str, prediction: RegressionPrediction | ClassificationPrediction, run: Run
) -> None:
    """Say that all passes are alike although dropout fired: the zeros are no certainty.

    Raises:
        NonFiniteError: If a variance is too large for its type.
    """
    if isinstance(prediction, RegressionPrediction):
        spread, size = prediction.epistemic_std, prediction.mean
    else:
        spread, size = prediction.probs_std, prediction.probs
    size = size.abs()
    # Asked for together: a device is waited for once.
    alike, overflows = torch.stack(
        [(spread <= _ROUNDING * size).all(), spread.isinf().any()]
    ).tolist()
    if overflows:
        raise NonFiniteError.of(
            function,
            "model",
            f"return numbers whose variance {spread.dtype} can hold",
            f"values up to {size.max().item():.2g}",
            "Scale the targets down, or pass dtype=torch.float64",
        )
    if alike:
        fired = ", ".join(site.name for site in run.sites if site.fired)
        warnings.warn(
            f"{function}: all {run.n_samples} passes are alike, although dropout fired in {fired}."
            " What it drops does not reach the output. Pick another part of the output with"
            " select=, or look at the rates.",
            stacklevel=4,
        )


def _run(
    settings: Settings,
    inputs: Any,
    n_samples: int,
    make: Callable[[int, bool, Rates], Accumulator[Result]],
    join: Callable[[Sequence[Result]], Result],
) -> tuple[Result, Run]:
    """Run `n_samples` passes over every batch and join the results, rows in order."""
    results: list[Result] = []
    n_joined = first_row = 0
    with Schedule(settings, inputs, n_samples) as schedule:
        for number, batch in schedule.batches():
            accumulator = make(first_row, schedule.handles_last(batch), schedule.rates(batch))
            chunk = _add_passes(schedule, accumulator, number, batch, (0, n_samples))
            first_row += chunk.shape[1]
            results.append(accumulator.result())
            if len(results) - n_joined == _JOINED:
                results[n_joined:] = [join(results[n_joined:])]
                n_joined += 1
    return join(results), schedule.record()


def _add_passes(
    schedule: Schedule,
    accumulator: Accumulator[Result],
    number: int,
    batch: Batch,
    between: tuple[int, int],
    fewer_rows: int = 1,
) -> Tensor:
    """Add passes of a batch, with their linear part if that is known; return the last chunk."""
    begin, end = between
    linearization = schedule.linearized(number, batch)
    for chunk in schedule.passes(number, batch, begin, end, fewer_rows):
        linear = None if linearization is None else linearization.part(begin, len(chunk))
        accumulator.update(chunk, linear)
        begin += len(chunk)
    return chunk


def _run_until_settled(
    settings: Settings,
    inputs: Any,
    make: Callable[[int, bool, Rates], Accumulator[PredictionT]],
    stop: Tolerance[PredictionT],
) -> PredictionT:
    """Run passes over every batch until its rows are settled; join the results, rows in order."""
    parts: list[SettledRows[PredictionT]] = []
    first_row = 0
    with Schedule(settings, inputs, CHECKPOINTS[-1], total_known=False) as schedule:
        for number, batch in schedule.batches():
            accumulator = make(first_row, schedule.handles_last(batch), schedule.rates(batch))
            found = list(_until_settled(schedule, number, batch, accumulator, stop, first_row))
            first_row += sum(len(part.numbers) for part in found)
            parts += found
    run = schedule.record()
    warn_of_rare_drops(settings.function, run, min(part.n_samples for part in parts))
    whole = in_row_order(settings.function, parts)
    return replace(whole, run=with_worth(run, whole))


def _until_settled(
    schedule: Schedule,
    number: int,
    batch: Batch,
    accumulator: Accumulator[PredictionT],
    stop: Tolerance[PredictionT],
    first_row: int,
) -> Iterator[SettledRows[PredictionT]]:
    """Yield the rows of one batch as they settle; where rows are separate, the others go on."""
    chunk = _add_passes(schedule, accumulator, number, batch, (0, CHECKPOINTS[0]))
    n_rows = chunk.shape[1]
    active = torch.arange(n_rows, device="cpu")
    whole = batch
    may_leave = cache(lambda: schedule.rows_may_leave(whole))
    for first, end in pairwise(CHECKPOINTS):
        done = stop.settled(accumulator.result()).cpu()
        if bool(done.all()):
            break
        if bool(done.any()) and may_leave():
            left = accumulator.rows(done.nonzero().flatten())
            yield SettledRows(first_row + active[done], left.result(), first, True)
            rest = (~done).nonzero().flatten()
            accumulator, active = accumulator.rows(rest), active[rest]
            batch = batch.take(rest.tolist())
        _add_passes(schedule, accumulator, number, batch, (first, end), n_rows // len(active))
    else:
        first = CHECKPOINTS[-1]
        done = stop.settled(accumulator.result()).cpu()
    yield SettledRows(first_row + active, accumulator.result(), first, bool(done.all()))
