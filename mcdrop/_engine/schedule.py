"""One prediction from start to end: batches of rows, chunks of passes, results by batch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.inputs import Batch, InputReader
from mcdrop._engine.passes import PassRunner
from mcdrop._engine.progress import progress_bar
from mcdrop._engine.record import Run
from mcdrop._engine.settings import Settings
from mcdrop._engine.work import Accumulator, Work, require_live
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.source import MaskSource, Span
from mcdrop._twin.copy import structural_copy

__all__ = ["ROUNDS", "Rows", "Sampler"]

Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")

_JOINED = 16

ROUNDS = (64, 96, 144, 208, 320, 480, 720, 1072, 1616, 2416, 3632, 5440, 8160, 10_000)
"""Numbers of passes after which it is asked which rows need more; whole strata of 16."""


@dataclass(frozen=True)
class Rows(Generic[Result_co]):
    """The result for rows that ran equally many passes.

    Attributes:
        numbers: Which rows, (n,).
        result: What their passes amount to.
        n_samples: Passes per row.
        settled: Whether they needed no more.
    """

    numbers: Tensor
    result: Result_co
    n_samples: int
    settled: bool


@dataclass(frozen=True)
class Sampler(Settings):
    """Runs the passes of one prediction with its settings."""

    def run(
        self,
        inputs: Any,
        n_samples: int,
        make: Callable[[int], Accumulator[Result]],
        join: Callable[[Sequence[Result]], Result],
    ) -> tuple[Result, Run]:
        """Run `n_samples` passes over every batch.

        Args:
            inputs: Whatever `InputReader` takes.
            n_samples: Passes per row.
            make: Makes the accumulator of a batch, given the number of its first row.
            join: Puts results of successive batches together.

        Returns:
            The result for all rows, in order, and the record of the run.
        """
        results: list[Result] = []
        n_joined = 0

        def each(work: Work, number: int, batch: Batch, first_row: int) -> int:
            nonlocal n_joined
            accumulator = make(first_row)
            n_rows = work.passes(number, batch, accumulator, 0, n_samples)
            results.append(accumulator.result())
            if len(results) - n_joined == _JOINED:
                # Small results scattered over the heap keep it from being used again.
                results[n_joined:] = [join(results[n_joined:])]
                n_joined += 1
            return n_rows

        run = self._each_batch(inputs, n_samples, each)
        return join(results), run

    def run_until(
        self,
        inputs: Any,
        make: Callable[[int], Accumulator[Result_co]],
        settled: Callable[[Result_co], Tensor],
    ) -> tuple[list[Rows[Result_co]], Run]:
        """Run passes until every row is settled; rows that are leave the batch.

        Args:
            inputs: Whatever `InputReader` takes.
            make: Makes the accumulator of a batch, given the number of its first row.
            settled: Tells which rows of a result need no further passes, (n,).

        Returns:
            Results for sets of rows, in no particular order, and the record of the run.
        """
        results: list[Rows[Result_co]] = []

        def each(work: Work, number: int, batch: Batch, first_row: int) -> int:
            accumulator = make(first_row)
            n_rows = work.passes(number, batch, accumulator, 0, ROUNDS[0])
            active = torch.arange(n_rows, device=self.place())
            alone = work.rows_may_leave(batch)
            for first, end in pairwise(ROUNDS):
                result = accumulator.result()
                done = settled(result)
                if bool(done.all()):
                    break
                if alone and bool(done.any()):
                    left = accumulator.rows(done.nonzero().flatten())
                    results.append(Rows(first_row + active[done], left.result(), first, True))
                    rest = (~done).nonzero().flatten()
                    accumulator, active = accumulator.rows(rest), active[rest]
                    batch = batch.take(rest.tolist())
                work.passes(number, batch, accumulator, first, end, n_rows // len(active))
            else:
                first = ROUNDS[-1]
                done = settled(accumulator.result())
            all_done = bool(done.all())
            results.append(Rows(first_row + active, accumulator.result(), first, all_done))
            return n_rows

        return results, self._each_batch(inputs, None, each)

    def _each_batch(
        self, inputs: Any, most: int | None, each: Callable[[Work, int, Batch, int], int]
    ) -> Run:
        """Call ``each(work, number, batch, first_row)``, which returns the number of rows.

        `most` is the number of passes if that is known beforehand.
        """
        began = time.perf_counter()
        device = self.place()
        seed = secrets.randbits(62) if self.seed is None else self.seed
        runner = self._runner(seed, device)
        reader = self._reader(device)
        n_batches = reader.count(inputs) if self.progress else None
        total = None if n_batches is None or most is None else n_batches * most
        first_row = 0
        with torch.no_grad(), progress_bar("stochastic passes", total, show=self.progress) as bar:
            work = Work(self, runner, most or ROUNDS[-1], bar)
            try:
                for number, batch in enumerate(work.parts(reader.batches(inputs))):
                    first_row += each(work, number, batch, first_row)
            finally:
                runner.release()
        return work.record(seed, device, time.perf_counter() - began)

    def one_pass(self, batch: Batch) -> Any:
        """Run one pass and return the model's output as it is."""
        device = self.place()
        seed = secrets.randbits(62) if self.seed is None else self.seed
        runner = self._runner(seed, device)
        output = runner.one(batch, Span())
        self.check_rate_names(runner.sites)
        if not runner.sites:
            require_live(self.function, self.model, runner.sites)
        return output

    def sites(self, inputs: Any) -> tuple[DropoutSite, ...]:
        """Return the dropout calls that one pass over the first batch of `inputs` makes."""
        device = self.place()
        with torch.no_grad():
            batch = next(iter(self._reader(device).batches(inputs)))
            sites = self._runner(0, device).counted_sites(batch)
        self.check_rate_names(sites)
        return sites

    def _runner(self, seed: int, device: torch.device) -> PassRunner:
        return PassRunner(
            self.function,
            structural_copy(self.model, device=device, dtype=self.dtype),
            MaskSource(seed, device, stratified=self.stratified),
            select=self.select,
            rates=self.rates,
            stochastic=self.stochastic,
            masks=self.masks,
            exact_last=self.exact_last,
        )

    def _reader(self, device: torch.device) -> InputReader:
        return InputReader(self.function, self.model, device, self.dtype, self.batch_size)
