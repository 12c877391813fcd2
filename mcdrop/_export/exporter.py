"""Makes a program that agrees with predictions, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import mcdrop
from mcdrop._engine.agreement import agree
from mcdrop._engine.batch import Batch
from mcdrop._engine.inputs import InputReader
from mcdrop._engine.passes import Passes
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._export.folding import CannotFoldError, FoldedCall
from mcdrop._export.program import Program
from mcdrop._export.summary import Spread, Summary
from mcdrop._live.rules import live_rules
from mcdrop._masks.source import Span
from mcdrop._twin.copy import recorded_copy
from mcdrop._twin.tracking import Tracker
from mcdrop.errors import McdropError, RangeError, UnsupportedError

__all__ = ["Exporter", "Job"]

# What a model raises whose rows cannot be repeated, or not at this place.
_CANNOT_FOLD = (
    CannotFoldError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
# The program is compared on so many rows more than the example has, too.
_MORE_ROWS = 3
# Folded kernels round differently; a mask in the wrong place is off by far more.
_RELATIVE = 1e-3
# Entropies of nearly certain classes are differences of numbers near 1.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Job:
    """What is to be exported.

    Attributes:
        settings: How the passes run.
        n_samples: Passes, S.
        summary: Turns them into what the program returns.
        expected: Returns what it should return, from the engine's own passes.
        described: What it is, as plain values.
    """

    settings: Settings
    n_samples: int
    summary: Summary
    expected: Callable[[Batch], dict[str, Tensor]]
    described: Mapping[str, Any]


class Exporter:
    """Makes the program, and compares it with predictions.

    Args:
        job: What is to be exported.
        example: Inputs of the kind and shapes that the program is to take.
    """

    def __init__(self, job: Job, example: Any) -> None:
        self._job = job
        self._settings = settings = job.settings
        self._seed = int(settings.seed or 0)
        with torch.no_grad():
            place = torch.device("cpu")
            reader = InputReader(settings.function, settings.model, place, None, None)
            self.batch = next(iter(reader.batches(example)))
            self._require_prediction()
            passes = Passes(settings, self._seed, place)
            self._plan = Planner(settings, passes).plan(
                self._enough_rows(), job.n_samples, rows_split=False
            )
            self._found = passes.copy.found
            self._sites = passes.counted_sites(self.batch)
        for part in job.summary.modules():
            if isinstance(part, Spread):
                part.know(tuple(site.p for site in self._sites if site.fired))
        own = [site.name for site in self._sites if site.kind == "module"]
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

    def metadata(self, program: Program) -> dict[str, Any]:
        """Return what a program is, as plain values to write beside it."""
        settings = self._settings
        inputs = dict(zip(program.input_names(self.batch), self.batch.tensors(), strict=True))
        sites = [
            {"name": site.name, "kind": site.kind, "p": site.p, "order": site.order}
            for site in self._sites
        ]
        return {
            "format": "mcdrop.export/1",
            "mcdrop": mcdrop.__version__,
            "torch": torch.__version__,
            **self._job.described,
            "n_samples": self._job.n_samples,
            "seed": self._seed,
            "stratified": settings.stratified,
            "folded_at": "input" if program.at_input else "first dropout",
            "sites": sites,
            "inputs": _tensors(inputs),
            "outputs": _tensors(self._run(program, self.batch)),
        }

    def _made(self, *, at_input: bool) -> Program:
        settings = self._settings
        twin, _ = recorded_copy(settings.model, device=torch.device("cpu"))
        tracker = Tracker(settings.function, twin, settings.stochastic)
        if self._found is not None:
            tracker.settle(self._found)
        call = FoldedCall(
            live_rules(),
            settings.source(self._seed, torch.device("cpu")),
            False,
            Span(),
            settings.rates,
            rows=self._plan.rows,
            n_passes=self._job.n_samples,
        )
        selection, summary = settings.selection, self._job.summary
        return Program(twin, tracker, call, selection, summary, at_input=at_input)

    def _require_prediction(self) -> None:
        """Refuse what predictions refuse, in their words, and a model that takes no other rows."""
        batch = self._enough_rows()
        try:
            self._job.expected(batch)
        except McdropError as error:
            # Masks are no option of an export: what the model says of few rows is told instead.
            if "`masks`" not in str(error) or not isinstance(error.__cause__, _CANNOT_FOLD):
                raise
            raise self._refused_by(error.__cause__) from error
        except _CANNOT_FOLD as error:
            raise self._refused_by(error) from error

    def _refused_by(self, error: BaseException) -> McdropError:
        """Return the error about a model that fails on some of the rows, with its own words."""
        lines = str(error).strip().splitlines() or [""]
        return self._refused(
            f"one that raises {type(error).__name__} for some of the rows: {lines[0]}"
        )

    def _enough_rows(self) -> Batch:
        """Return the example; a single row is no sign of what rows share."""
        if self.batch.n_rows is None or self.batch.n_rows < 2:
            shapes = [tuple(x.shape) for x in self.batch.tensors()]
            raise RangeError.of(
                self._settings.function,
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
            expected = self._job.expected(batch)
            try:
                found = run(batch)
            except _CANNOT_FOLD as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                return f"for {batch.n_rows} rows it raises {type(error).__name__}: {lines[0]}"
            for name, values in expected.items():
                if found[name].shape != values.shape:
                    return f"{name} has shape {tuple(found[name].shape)} for {tuple(values.shape)}"
                # NaN where rounding decides, as in a set whose threshold is a score.
                off = (found[name].to(values) - values).abs().nan_to_num().amax().item()
                rounding = _ROUNDING if "probs" in expected else 0.0
                if off > rounding and not agree(found[name], values, _RELATIVE):
                    return f"{name} is off by {off:.2g}"
        return ""

    def _run(self, program: Program, batch: Batch) -> Mapping[str, Tensor]:
        own = batch.copied()
        found: Mapping[str, Tensor] = program(*own.args, **own.kwargs)
        return found

    def _refused(self, found: str) -> McdropError:
        kind = type(self._settings.model).__name__
        return UnsupportedError.of(
            self._settings.function,
            "model",
            "be one whose masks can be constants",
            f"{kind}, {found}",
            "Serve it with predict_with_uncertainty",
        )


def _tensors(named: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dtype": str(x.dtype).removeprefix("torch."),
            "row_shape": list(x.shape[1:]),
        }
        for name, x in named.items()
    ]
