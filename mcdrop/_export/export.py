"""`export`: dropout that survives in a program which draws nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._engine.agreement import agree
from mcdrop._engine.batch import Batch
from mcdrop._engine.inputs import InputReader
from mcdrop._engine.outputs import Select, Selection
from mcdrop._engine.passes import Passes
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._export.folding import CannotFoldError, FoldedCall
from mcdrop._export.program import Program
from mcdrop._export.summary import ClassSummary, RegressionSummary, Summary
from mcdrop._export.writing import writer
from mcdrop._live.rules import live_rules
from mcdrop._masks.source import Span
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.predict import predict
from mcdrop._tasks.settings import Task, TaskSettings
from mcdrop._twin.copy import recorded_copy
from mcdrop._twin.tracking import Tracker
from mcdrop.checks import checked_noise, require_count
from mcdrop.errors import McdropError, RangeError, UnsupportedError
from mcdrop.wrapper import MCDropout, wrap

__all__ = ["export"]

_FUNCTION = "export"
# What a model raises whose rows cannot be repeated, or not at this place.
_CANNOT_FOLD = (CannotFoldError, RuntimeError, ValueError, TypeError, IndexError, AttributeError)
# The program is compared on so many rows more than the example has, too.
_MORE_ROWS = 3
# Folded kernels round differently; a mask in the wrong place is off by far more.
_RELATIVE = 1e-3
# Entropies of nearly certain classes are differences of numbers near 1.
_ROUNDING = 1e-5


def export(
    model: nn.Module | MCDropout,
    example: Any,
    path: str | os.PathLike[str],
    *,
    n_samples: int = 32,
    seed: int = 0,
    task: Task | None = None,
    output_type: OutputType = "logits",
    select: Select = None,
    noise_std: float | Tensor | None = None,
) -> None:
    """Write a model with its stochastic passes as one program without any random numbers.

    The masks of `n_samples` passes, which all rows share, become constants. The program takes any
    number of rows and needs neither mcdrop nor the code of the model. It returns what
    ``predict_with_uncertainty(..., seed=seed, control_variate=False)`` of
    ``wrap(model, masks="shared")`` returns, to rounding. What comes before the first dropout runs
    once where the model allows it.

    Args:
        model: A model with dropout, or `wrap(model, ...)`, whose rates, strata and `stochastic`
            then hold.
        example: Inputs of the kind and shapes that the program is to take: a tensor, array or
            data frame (one argument of the model), a tuple (positional) or a dict (keywords).
            Dimension 0 counts rows, of which there must be two or more.
        path: File to write; ".pt2" for `torch.export`, ".onnx" for ONNX.
        n_samples: Passes, S >= 2; 16 or more for stratified ones to pay.
        seed: Same seed, same masks.
        task: As for `predict_with_uncertainty`; None for the regression of one value per row.
        output_type: As for `predict_with_uncertainty`.
        select: As for `predict_with_uncertainty`.
        noise_std: As for `predict_with_uncertainty`.

    Raises:
        UnsupportedError: If masks cannot be constants (the model draws random numbers of its own,
            mixes rows, or branches on values), if the exporter cannot write the model, or if `path`
            has another suffix.
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
    require_count(_FUNCTION, "n_samples", n_samples, 2)
    require_count(_FUNCTION, "seed", seed, 0)
    mc = MCDropout(wrap(model), masks="shared", stratified=getattr(model, "stratified", True))
    settings = Settings(
        _FUNCTION,
        mc.model,
        mc.rates,
        mc.stochastic,
        "shared",
        mc.stratified,
        selection=Selection(
            select,
            is_pair=task == "heteroscedastic",
            is_single=task is None and noise_std is None,
        ),
        seed=seed,
        device="cpu",
        n_samples=n_samples,
    )
    asked = TaskSettings(settings, task, output_type, n_samples, noise_std)
    exporter = _Exporter(asked, example)
    with torch.no_grad():
        program = exporter.program()
        write(_FUNCTION, program, exporter.batch, Path(path), exporter.check)


class _Exporter:
    """Makes the program, and compares it with predictions."""

    def __init__(self, asked: TaskSettings, example: Any) -> None:
        self._asked = asked
        self._settings = settings = asked.engine
        self._n_samples = int(asked.n_samples)
        self._seed = int(settings.seed or 0)
        with torch.no_grad():
            reader = InputReader(_FUNCTION, settings.model, torch.device("cpu"), None, None)
            self.batch = next(iter(reader.batches(example)))
            # What a prediction refuses is the caller's, and says so best itself.
            self._expected(self._enough_rows())
            passes = Passes(settings, self._seed, torch.device("cpu"))
            self._plan = Planner(settings, passes).plan(
                self._enough_rows(), self._n_samples, rows_split=False
            )
            self._found = passes.copy.found
            draws = passes.counted_sites(self.batch)
        own = [site.name for site in draws if site.kind == "module"]
        if own or self._plan.seeds_globals or passes.seen.random_calls:
            raise self._refused(f"random numbers that {', '.join(own) or 'the model'} draws itself")

    def program(self) -> Program:
        """Return a program that agrees with predictions; fold as late as the model allows."""
        problem = ""
        for at_input in (False, True):
            program = self._made(at_input=at_input)
            try:
                self._run(program, self.batch)
                problem = self._differs(partial(self._run, program))
            except _CANNOT_FOLD as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                problem = lines[0]
            if not problem:
                return program
        raise self._refused(f"one whose rows cannot stand for passes: {problem}")

    def check(self, run: Callable[[Batch], Mapping[str, Tensor]]) -> None:
        """Refuse a program that was written and does not return what predictions do."""
        problem = self._differs(run)
        if problem:
            raise self._refused(f"one that differs once it is exported: {problem}")

    def _made(self, *, at_input: bool) -> Program:
        settings = self._settings
        twin, _ = recorded_copy(settings.model, device=torch.device("cpu"))
        tracker = Tracker(_FUNCTION, twin, settings.stochastic)
        if self._found is not None:
            tracker.settle(self._found)
        call = FoldedCall(
            live_rules(),
            settings.source(self._seed, torch.device("cpu")),
            False,
            Span(),
            settings.rates,
            rows=self._plan.rows,
            n_passes=self._n_samples,
        )
        selection = settings.selection
        return Program(twin, tracker, call, selection, self._summary(), at_input=at_input)

    def _summary(self) -> Summary:
        asked = self._asked
        strata = self._settings.stratified
        if asked.is_regression:
            return RegressionSummary(
                self._n_samples,
                stratified=strata,
                noise_std=checked_noise(_FUNCTION, asked.noise_std),
                spread=asked.output_type if asked.task == "heteroscedastic" else None,
            )
        return ClassSummary(
            self._n_samples,
            stratified=strata,
            output_type=asked.output_type,
            binary=asked.task in ("binary", "multilabel"),
            multilabel=asked.task == "multilabel",
        )

    def _enough_rows(self) -> Batch:
        """Return the example; a single row is no sign of what rows share."""
        if self.batch.n_rows is None or self.batch.n_rows < 2:
            shapes = [tuple(x.shape) for x in self.batch.tensors()]
            raise RangeError.of(
                _FUNCTION,
                "example",
                "have two rows or more along dimension 0 of every tensor",
                f"shapes {shapes}",
                "Pass some rows of the data",
            )
        return self.batch

    def _differs(self, run: Callable[[Batch], Mapping[str, Tensor]]) -> str:
        """Tell how a program differs from predictions, also for another number of rows."""
        n_rows = self.batch.n_rows or 0
        others = [i % n_rows for i in range(n_rows + _MORE_ROWS)]
        for batch in (self.batch, self.batch.take(others).disturbed()):
            expected = self._expected(batch)
            try:
                found = run(batch)
            except _CANNOT_FOLD as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                return f"for {batch.n_rows} rows it raises {type(error).__name__}: {lines[0]}"
            for name, values in expected.items():
                if found[name].shape != values.shape:
                    return f"{name} has shape {tuple(found[name].shape)} for {tuple(values.shape)}"
                off = (found[name] - values).abs().nan_to_num().amax().item()
                rounding = 0.0 if self._asked.is_regression else _ROUNDING
                if off > rounding and not agree(found[name], values, _RELATIVE):
                    return f"{name} is off by {off:.2g}"
        return ""

    def _expected(self, batch: Batch) -> dict[str, Tensor]:
        """Return what a prediction says."""
        prediction = predict(self._asked, dict(batch.kwargs) if batch.kwargs else batch.args)
        names = RegressionSummary.names if self._asked.is_regression else ClassSummary.names
        return {name: getattr(prediction, name) for name in names}

    def _run(self, program: Program, batch: Batch) -> Mapping[str, Tensor]:
        own = batch.copied()
        found: Mapping[str, Tensor] = program(*own.args, **own.kwargs)
        return found

    def _refused(self, found: str) -> McdropError:
        kind = type(self._settings.model).__name__
        return UnsupportedError.of(
            _FUNCTION,
            "model",
            "be one whose masks can be constants",
            f"{kind}, {found}",
            "Serve it with predict_with_uncertainty",
        )
