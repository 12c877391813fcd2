"""The passes of one prediction, batch after batch, with what was decided on the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from mcdrop._engine.inputs import Batch
from mcdrop._engine.passes import CANNOT_BATCH, PassRunner, Plan
from mcdrop._engine.progress import ProgressBar
from mcdrop._engine.record import Run, Strategy
from mcdrop._engine.settings import Settings
from mcdrop._engine.splitting import passes_that_fit, rows_that_fit, treats_rows_alone
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.source import Span
from mcdrop.errors import NoDropoutError, ShapeError

__all__ = ["Accumulator", "Work", "require_live"]

Result_co = TypeVar("Result_co", covariant=True)


class Accumulator(Protocol[Result_co]):
    """Receives the passes of one batch, chunk by chunk."""

    def update(self, chunk: Tensor) -> None:
        """Add outputs of shape (s, n, ...)."""

    def rows(self, rows: Tensor) -> Self:
        """Return an accumulator that has seen the same passes of some rows."""

    def result(self) -> Result_co:
        """Return what they amount to."""


class Work:
    """The passes of one prediction, batch after batch, with what was decided on the first."""

    def __init__(
        self, settings: Settings, runner: PassRunner, n_samples: int, bar: ProgressBar
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._n_samples = n_samples
        self._bar = bar
        self._most = 0
        self._plan: Plan | None = None
        self._sites: tuple[DropoutSite, ...] = ()
        self._strategy: Strategy = "sequential"
        self._reason = ""
        self._chunk = 1
        self._rows: int | None = None

    def parts(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, in parts where one is too large and rows may be split."""
        for batch in batches:
            if self._plan is None and self._settings.batch_size is None:
                key = ("rows", batch.signature(), self._settings.signature())
                if key not in self._settings.memory:
                    self._settings.memory[key] = rows_that_fit(self._runner, batch)
                self._rows = self._settings.memory[key]
            if self._rows is None or batch.n_rows is None or batch.n_rows <= self._rows:
                yield batch
                continue
            starts = range(0, batch.n_rows, self._rows)
            self._bar.expect_more((len(starts) - 1) * self._n_samples)
            for start in starts:
                yield batch.rows(start, start + self._rows)

    def passes(
        self,
        number: int,
        batch: Batch,
        accumulator: Accumulator[Any],
        first: int,
        end: int,
        fewer_rows: int = 1,
    ) -> int:
        """Run some passes of one batch and return its number of rows.

        Args:
            number: Number of the batch.
            batch: The rows.
            accumulator: Receives the passes.
            first: Number of the first pass.
            end: Number after the last one.
            fewer_rows: How many times fewer the rows are than when the chunk was chosen.
        """
        if self._plan is None:
            self._plan = self._decide(batch)
        begin = first
        while begin < end:
            count = min(self._chunk * max(1, fewer_rows), end - begin)
            try:
                chunk = self._passes(batch, Span(number, begin, count))
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not _out_of_memory(error):
                    raise
                # Masks depend on the number of the pass alone, so nothing done so far is lost.
                self._halve(count // 2)
                fewer_rows = 1
                continue
            if begin == 0 and number == 0:
                self._check_sites(self._runner.sites)
            if begin == 0:
                self._check_rows(batch, chunk, number)
            accumulator.update(chunk)
            self._bar.advance(count)
            begin += count
        self._most = max(self._most, end)
        return int(chunk.shape[1])

    def _halve(self, chunk: int) -> None:
        """Go on with smaller chunks after running out of memory."""
        self._chunk = chunk
        self._runner.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        note = "; memory ran out, so chunks were made smaller"
        self._reason = self._reason.removesuffix(note) + note

    def rows_may_leave(self, batch: Batch) -> bool:
        """Tell whether rows can be left out of a batch; asked once for inputs of a kind."""
        key = ("alone", batch.signature(), self._settings.signature())
        if key not in self._settings.memory:
            self._settings.memory[key] = treats_rows_alone(self._runner, batch)
        return bool(self._settings.memory[key])

    def record(self, seed: int, device: torch.device, seconds: float) -> Run:
        """Return the record of the whole prediction."""
        if self._plan is None:
            raise RuntimeError("record: no batch has run")
        return Run(
            strategy=self._strategy,
            reason=self._reason,
            n_samples=self._most,
            seed=seed,
            masks=self._settings.masks,
            stratified=self._settings.stratified,
            sites=self._sites,
            batch_size=self._settings.batch_size or self._rows,
            sample_chunk=self._chunk,
            device=str(device),
            dtype=str(self._plan.dtype).removeprefix("torch."),
            seconds=seconds,
        )

    def _decide(self, batch: Batch) -> Plan:
        """Look at the model once: are there live sites, which strategy, how many passes at once."""
        settings = self._settings
        key = ("plan", batch.signature(), settings.signature())
        plan = settings.memory.get(key)
        if plan is None:
            plan = self._runner.plan(batch)
            self._check_sites(plan.sites)
            if settings.exact_last:
                plan = replace(plan, last_site=self._runner.integrate_last(batch))
            settings.memory[key] = plan
        else:
            self._runner.adopt(plan)
        device = batch.tensors()[0].device
        self._strategy, self._reason = plan.strategy, plan.reason
        fitting = passes_that_fit(plan, device, rows_split=self._rows is not None)
        self._chunk = min(settings.sample_chunk or fitting, self._n_samples)
        if settings.strategy is not None and settings.strategy != plan.strategy:
            self._strategy, self._reason = settings.strategy, "asked for"
        elif settings.strategy is None and self._chunk == 1 and plan.strategy == "vectorized":
            self._strategy = "sequential"
            self._reason = "one pass over this batch already fills the memory set aside for it"
        return plan

    def _check_sites(self, sites: tuple[DropoutSite, ...]) -> None:
        """Refuse unknown names of sites, and a model in which nothing is random."""
        self._settings.check_rate_names(sites)
        require_live(self._settings.function, self._settings.model, sites)
        self._sites = sites

    def _passes(self, batch: Batch, span: Span) -> Tensor:
        """Run one chunk; what cannot be batched after all runs one pass at a time."""
        if self._strategy == "vectorized":
            try:
                return self._runner.vectorized(batch, span)
            except CANNOT_BATCH as error:
                if _out_of_memory(error):
                    raise
                if self._settings.strategy == "vectorized":
                    raise
                self._strategy = "sequential"
                self._reason = f"batch {span.batch} could not be batched over passes: {error}"
        return self._runner.sequential(batch, span)

    def _check_rows(self, batch: Batch, chunk: Tensor, number: int) -> None:
        """Refuse an output that does not have one row per input row where rows were split."""
        split = self._rows is not None or self._settings.batch_size is not None or number > 0
        if split and batch.n_rows is not None and chunk.shape[1] != batch.n_rows:
            raise ShapeError.of(
                self._settings.function,
                "model",
                f"return {batch.n_rows} rows for {batch.n_rows} input rows",
                f"shape {tuple(chunk.shape[1:])}",
                "Put rows first in inputs and outputs, or leave batch_size out",
            )


def _out_of_memory(error: Exception) -> bool:
    """Tell whether a device or the CPU ran out of memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def require_live(function: str, model: nn.Module, sites: Sequence[DropoutSite]) -> None:
    """Refuse a model in which nothing became random."""
    if any(site.fired for site in sites):
        return
    kind = type(model).__name__
    if sites:
        found = ", ".join(f"{site.name} (p={site.p:g})" for site in sites[:10])
        raise NoDropoutError.of(
            function,
            "model",
            "have a dropout with 0 < p < 1",
            f"{kind} with {found}",
            "Override the rate: mcdrop.wrap(model, p=0.1)",
        )
    modules = [name for name, m in model.named_modules() if "drop" in type(m).__name__.lower()]
    unused = f" (has {', '.join(modules[:10])}, but never called it)" if modules else ""
    raise NoDropoutError.of(
        function,
        "model",
        "call dropout in its forward pass",
        f"{kind} without any{unused}",
        "Pass a model that was trained with dropout",
    )
