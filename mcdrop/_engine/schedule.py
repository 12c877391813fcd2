"""One prediction from start to end: batches of rows, and for each of them chunks of passes."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.batch import Batch
from mcdrop._engine.control import described, linearize
from mcdrop._engine.control_flow import naming_control_flow
from mcdrop._engine.groups import Rates
from mcdrop._engine.inputs import InputReader
from mcdrop._engine.linearization import Linearization, NoSlopesError
from mcdrop._engine.misfit import naming_misfits
from mcdrop._engine.outputs import rows_change, shape_changes
from mcdrop._engine.passes import CANNOT_BATCH, Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.planner import Planner, ran_out_of_memory
from mcdrop._engine.progress import ProgressBar, progress_bar
from mcdrop._engine.record import Run
from mcdrop._engine.settings import Settings
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.numba_kernels import UNITS_WORTH_COMPILING, prepare
from mcdrop._masks.source import Span
from mcdrop._masks.triton_kernels import UNITS_WORTH_COMPILING_THERE
from mcdrop._masks.triton_kernels import prepare as prepare_there
from mcdrop.errors import ShapeError

__all__ = ["Schedule", "list_sites", "run_one_pass"]

_OUT_OF_MEMORY = "; memory ran out, so chunks were made smaller"


class Schedule:
    """The batches and passes of one prediction, in order; a context without gradients.

    Args:
        settings: Settings of the prediction.
        inputs: Whatever `InputReader` takes.
        n_samples: Passes per row.
        total_known: Whether every row takes that many, so that progress has an end.
    """

    def __init__(
        self, settings: Settings, inputs: Any, n_samples: int, *, total_known: bool = True
    ) -> None:
        known = n_samples if total_known else None
        self._settings = settings = replace(settings.placed(inputs), n_samples=known)
        self._inputs = inputs
        self._n_samples = n_samples
        self._total_known = total_known
        self._began = time.perf_counter()
        self._device = settings.place()
        self._seed = _seed(settings)
        self._passes = Passes(settings, self._seed, self._device)
        self._planner = Planner(settings, self._passes)
        self._reader = _reader(settings, self._device)
        self._bar = ProgressBar(None, "", None)
        self._open = ExitStack()
        self._plan: Plan | None = None
        self._first_batch: Batch | None = None
        self._rows: int | None = None
        self._row_shape: torch.Size | None = None
        self._most = 0
        self._sites: tuple[DropoutSite, ...] = ()
        self._by_batch: dict[str, None] = {}

    def __enter__(self) -> Self:
        n_batches = self._reader.count(self._inputs) if self._settings.progress else None
        known = n_batches is not None and self._total_known
        total = n_batches * self._n_samples if n_batches is not None and known else None
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            bar = progress_bar(
                self._settings.function,
                "stochastic passes",
                total,
                show=self._settings.progress,
            )
            self._bar = stack.enter_context(bar)
            stack.callback(self._passes.release)
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._open.close()
        if kind is None:
            self._passes.copy.keep()

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield numbered batches, in parts where one is too large and rows may be split."""
        return enumerate(self._parts())

    def passes(
        self, number: int, batch: Batch, first: int, end: int, fewer_rows: int = 1
    ) -> Iterator[Tensor]:
        """Yield the outputs of some passes of one batch, chunk by chunk.

        Args:
            number: Number of the batch.
            batch: The rows.
            first: Number of the first pass.
            end: Number after the last one.
            fewer_rows: How many times fewer the rows are than when the chunk was chosen.

        Yields:
            Outputs, (s, n, ...).
        """
        plan = self._plan or self._decide(batch)
        begin = first
        while begin < end:
            count = min(plan.chunk * max(1, fewer_rows), end - begin)
            try:
                chunk = self._chunk(plan, batch, self._span(number, batch, begin, count))
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not ran_out_of_memory(error):
                    raise
                # Masks depend on the number of the pass alone, so nothing done so far is lost.
                plan, fewer_rows = self._halve(plan, count // 2), 1
                continue
            plan = self._plan or plan
            if begin == 0:
                self._check_first(batch, chunk, number)
                self._by_batch.update(dict.fromkeys(self._passes.seen.drawn_by_batch))
            if begin == first:
                shape = chunk.shape[1:]
            if chunk.shape[1:] != shape:
                raise shape_changes(self._settings.function, {shape, chunk.shape[1:]})
            yield chunk
            self._bar.advance(count)
            begin += count
        self._most = max(self._most, end)

    def handles_last(self, batch: Batch) -> bool:
        """Tell whether passes hold the variance of an integrated last dropout, or its redraws."""
        return (self._plan or self._decide(batch)).last_site is not None

    def rates(self, batch: Batch) -> Rates:
        """Return the dropout rate of every site whose masks are drawn."""
        plan = self._plan or self._decide(batch)
        return tuple(s.p for s in plan.sites if s.fired and s.order != plan.last_site)

    def linearized(self, number: int, batch: Batch) -> Linearization | None:
        """Return the network of a batch at open masks, or None where it is no control variate.

        Args:
            number: Number of the batch.
            batch: The rows.
        """
        plan = self._plan or self._decide(batch)
        if not plan.linear:
            return None
        try:
            span = self._span(number, batch)
            return linearize(self._settings, self._passes, plan, batch, span)
        except (NoSlopesError, *CANNOT_BATCH) as error:
            reason = str(error).strip().splitlines()[0]
            if plan.last_site is None and self._settings.scores is None:
                raise self._settings.no_control(reason) from error
        without: dict[str, Any] = {"linear": (), "control": reason}
        self._plan = replace(plan, **without)
        self._planner.forgo(self._first_batch or batch, **without)
        return None

    def rows_may_leave(self, batch: Batch) -> bool:
        """Tell whether rows can be left out of a batch without a change to the others."""
        return self._planner.rows_may_leave(batch)

    def record(self) -> Run:
        """Return the record of the whole prediction."""
        if self._plan is None:
            raise RuntimeError("record: no batch has run")
        return Run(
            strategy=self._plan.strategy,
            reason=self._plan.reason,
            n_samples=self._most,
            seed=self._seed,
            masks=self._settings.masks,
            stratified=self._settings.stratified,
            sites=self._sites,
            batch_size=self._settings.batch_size or self._rows,
            sample_chunk=self._plan.chunk,
            device=str(self._device),
            dtype=str(self._plan.dtype).removeprefix("torch."),
            seconds=time.perf_counter() - self._began,
            watched=self._passes.copy.watched,
            control_variate=described(self._plan, asked=self._settings.control_variate is True),
            controlled=bool(self._plan.linear) or self._plan.last_site is not None,
            depends_on_batches=self._depends_on_batches(self._plan),
        )

    def _span(self, number: int, batch: Batch, first: int = 0, count: int = 1) -> Span:
        """Return some passes over a batch, as masks are keyed by them."""
        # Parts of the same inputs that begin at other rows have batches of their own.
        return Span(self._settings.first_row + number, first, count, batch.numbers)

    def _numbered(self) -> Iterator[Batch]:
        """Yield the batches as they come, with rows numbered among all inputs."""
        first, given = self._settings.first_row, self._settings.row_numbers
        for batch in self._reader.batches(self._inputs):
            n_rows = batch.n_rows
            if n_rows is None:
                yield batch
                first += 1
                continue
            counted = range(first, first + n_rows)
            yield replace(batch, numbers=counted if given is None else given[first : counted.stop])
            first += n_rows

    def _depends_on_batches(self, plan: Plan) -> str:
        """Say which numbers depend on how rows are split into batches, and why."""
        found = ", ".join(self._by_batch)
        if self._settings.masks == "shared":
            why = "every row has numbers of its own there, so another batch_size draws other ones"
            return f"{found}: {why}" if found else ""
        if plan.seeds_globals:
            found = ", ".join([*self._by_batch, "a global generator"])
        parts = []
        if found:
            why = "rows cannot be told apart there, so another batch_size draws other numbers"
            parts.append(f"{found}: {why}")
        if plan.linear and self._settings.scores is None:
            parts.append("the control variate: its slopes are shrunk towards those of the batch")
        return "; ".join(parts)

    def _parts(self) -> Iterator[Batch]:
        for batch in self._numbered():
            is_first = self._plan is None
            if is_first and self._settings.batch_size is None:
                with naming_misfits(self._settings, self._passes, batch):
                    self._rows = self._planner.rows_per_call(batch)
            if self._rows is None or batch.n_rows is None or batch.n_rows <= self._rows:
                yield batch
                continue
            if not is_first and not self._planner.rows_may_leave(batch):
                yield batch
                continue
            starts = range(0, batch.n_rows, self._rows)
            self._bar.expect_more((len(starts) - 1) * self._n_samples)
            for start in starts:
                yield batch.rows(start, start + self._rows)

    def _decide(self, batch: Batch) -> Plan:
        """Ask for the plan, and for compiled kernels once enough masks have been drawn."""
        self._first_batch = batch
        split = self._rows is not None
        misfits = naming_misfits(self._settings, self._passes, batch)
        with naming_control_flow(self._settings.function), misfits:
            self._plan = self._planner.plan(batch, self._n_samples, rows_split=split)
        per_pass = sum(math.prod(site.shape) for site in self._plan.sites if site.fired)
        drawn = self._settings.memory.count_units(per_pass * self._n_samples)
        if drawn >= UNITS_WORTH_COMPILING and self._device.type == "cpu":
            prepare()
        if drawn >= UNITS_WORTH_COMPILING_THERE and self._device.type == "cuda":
            prepare_there()
        return self._plan

    def _chunk(self, plan: Plan, batch: Batch, span: Span) -> Tensor:
        """Run one chunk; what cannot be batched after all runs one pass at a time."""
        if plan.strategy == "sequential":
            return self._passes.sequential(plan, batch, span)
        try:
            return self._vectorized(plan, batch, span)
        except CANNOT_BATCH as error:
            if ran_out_of_memory(error):
                raise
            reason = f"batch {span.batch} could not be batched over passes: {error}"
            if self._settings.strategy == "vectorized":
                raise self._planner.cannot_vectorize(reason) from error
        self._plan = replace(plan, strategy="sequential", reason=reason)
        return self._passes.sequential(self._plan, batch, span)

    def _vectorized(self, plan: Plan, batch: Batch, span: Span) -> Tensor:
        """Run one chunk at once; if code that bypasses the mode read placeholders, without them."""
        chunk = self._passes.vectorized(plan, batch, span)
        if not plan.defers or not bool(chunk.isnan().any()):
            return chunk
        undeferred = replace(plan, defers=False)
        chunk = self._passes.vectorized(undeferred, batch, span)
        if not bool(chunk.isnan().any()):
            self._plan = undeferred
            self._planner.forgo(self._first_batch or batch, defers=False)
        return chunk

    def _halve(self, plan: Plan, chunk: int) -> Plan:
        """Go on with smaller chunks after running out of memory."""
        self._passes.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reason = plan.reason.removesuffix(_OUT_OF_MEMORY) + _OUT_OF_MEMORY
        self._plan = replace(plan, chunk=chunk, reason=reason)
        return self._plan

    def _check_first(self, batch: Batch, chunk: Tensor, number: int) -> None:
        """Check the sites of the first pass of all, and what each batch returns for a row."""
        if self._row_shape is None:
            self._row_shape = chunk.shape[2:]
        if chunk.shape[2:] != self._row_shape:
            raise rows_change(self._settings.function, self._row_shape, chunk.shape[2:], number)
        if number == 0:
            self._sites = tuple(self._passes.seen.sites)
            self._settings.check_sites(self._sites)
            self._settings.check_live(self._sites)
        split = self._rows is not None or self._settings.batch_size is not None or number > 0
        if split and batch.n_rows is not None and chunk.shape[1] != batch.n_rows:
            raise ShapeError.of(
                self._settings.function,
                "model",
                f"return {batch.n_rows} rows for {batch.n_rows} input rows",
                f"shape {tuple(chunk.shape[1:])}",
                "Put rows first in inputs and outputs, or leave batch_size out",
            )


def run_one_pass(settings: Settings, batch: Batch) -> Any:
    """Run one pass and return the model's output as it is; gradients flow."""
    settings = settings.placed((batch.args, batch.kwargs))
    passes = Passes(settings, _seed(settings), settings.place())
    passes.copy.watch(batch)
    with naming_control_flow(settings.function):
        output = passes.one(Plan(), batch)
    settings.check_sites(passes.seen.sites)
    if not passes.seen.sites:
        settings.check_live(())
    if not torch.is_grad_enabled():
        # Gradients would still need what the copy holds.
        passes.copy.keep()
    return output


def list_sites(settings: Settings, inputs: Any) -> tuple[DropoutSite, ...]:
    """Return the dropout calls that one pass over the first batch of `inputs` makes."""
    settings = settings.placed(inputs)
    device = settings.place()
    with torch.no_grad(), naming_control_flow(settings.function):
        batch = next(iter(_reader(settings, device).batches(inputs)))
        passes = Passes(settings, 0, device)
        with naming_misfits(settings, passes, batch):
            passes.copy.watch(batch)
            sites = passes.counted_sites(batch)
    settings.check_sites(sites)
    return sites


def _seed(settings: Settings) -> int:
    return secrets.randbits(62) if settings.seed is None else int(settings.seed)


def _reader(settings: Settings, device: torch.device) -> InputReader:
    return InputReader(
        settings.function,
        settings.model,
        device,
        settings.dtype,
        settings.batch_size,
        settings.prepare,
    )
