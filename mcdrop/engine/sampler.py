"""One prediction from start to end: batches of rows, chunks of passes, results by batch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mcdrop.engine.checks import check_count
from mcdrop.engine.inputs import Batch, InputReader
from mcdrop.engine.outputs import Select
from mcdrop.engine.passes import CANNOT_BATCH, PassRunner, Plan
from mcdrop.engine.progress import ProgressBar, progress_bar
from mcdrop.engine.run import Masks, Run, Strategy
from mcdrop.engine.splitting import passes_that_fit, rows_that_fit
from mcdrop.errors import NoDropoutError, RangeError, ShapeError
from mcdrop.stochastic.masks import MaskSource, Span
from mcdrop.stochastic.sites import DropoutSite
from mcdrop.stochastic.twin import structural_copy

__all__ = ["Accumulator", "Sampler"]

Result_co = TypeVar("Result_co", covariant=True)


class Accumulator(Protocol[Result_co]):
    """Receives the passes of one batch, chunk by chunk."""

    def update(self, chunk: Tensor) -> None:
        """Add outputs of shape (s, n, ...)."""

    def result(self) -> Result_co:
        """Return what they amount to."""


@dataclass(frozen=True)
class Sampler:
    """Settings of one prediction.

    Attributes:
        function: Public function to name in errors.
        model: The caller's model, only read.
        rates: Dropout rates by site name; the key "" overrides all.
        stochastic: Module types and names whose own `training` flag gates their randomness.
        masks: "independent" (each row its own) or "shared" (all rows of all batches the same).
        stratified: Whether every 16 passes share the drops of a unit out evenly.
        select: Which tensor of the output is the prediction.
        seed: Seed of the masks; None draws one from the operating system.
        batch_size: Rows per forward call, or None.
        sample_chunk: Passes per vectorised call, or None to choose.
        device: Where to run; None for where the model is.
        dtype: Floating point type to run in; None for the model's.
        progress: Whether to show a progress bar on standard error.
        strategy: Force a strategy; None chooses.
        memory: What earlier predictions of the same wrapper found out about model and inputs.
    """

    function: str
    model: nn.Module
    rates: Mapping[str, float]
    stochastic: tuple[type[nn.Module] | str, ...] = ()
    masks: Masks = "independent"
    stratified: bool = True
    select: Select = None
    seed: int | None = None
    batch_size: int | None = None
    sample_chunk: int | None = None
    device: str | torch.device | None = None
    dtype: torch.dtype | None = None
    progress: bool = False
    strategy: Strategy | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument, least in (("batch_size", 1), ("sample_chunk", 1), ("seed", 0)):
            value = getattr(self, argument)
            if value is not None:
                check_count(self.function, argument, value, least)

    def signature(self) -> Hashable:
        """Return what a plan depends on besides the inputs: the model's structure and options."""
        modules = tuple((path, id(type(m))) for path, m in self.model.named_modules())
        select = getattr(self.select, "__code__", self.select)
        rates = tuple(sorted(self.rates.items()))
        device = self._place()
        place = (str(device), self.dtype, torch.is_autocast_enabled(device.type))
        return modules, select, rates, self.stochastic, self.masks, place

    def run(
        self,
        inputs: Any,
        n_samples: int,
        make: Callable[[int], Accumulator[Result_co]],
    ) -> tuple[list[Result_co], Run]:
        """Run `n_samples` passes over every batch.

        Args:
            inputs: Whatever `InputReader` takes.
            n_samples: Passes per row.
            make: Makes the accumulator of a batch, given the number of its first row.

        Returns:
            One result per batch, in order, and the record of the run.
        """
        began = time.perf_counter()
        device = self._place()
        seed = secrets.randbits(62) if self.seed is None else self.seed
        runner = self._runner(seed, device)
        reader = self._reader(device)
        results: list[Result_co] = []
        work = _Work(self, runner, n_samples)
        first_row = 0
        n_batches = reader.count(inputs) if self.progress else None
        total = None if n_batches is None else n_batches * n_samples
        with torch.no_grad(), progress_bar("stochastic passes", total, show=self.progress) as bar:
            for number, batch in enumerate(work.parts(reader.batches(inputs), bar)):
                accumulator = make(first_row)
                n_rows = work.batch(number, batch, accumulator, bar)
                results.append(accumulator.result())
                first_row += n_rows
        return results, work.record(seed, device, time.perf_counter() - began)

    def one_pass(self, batch: Batch) -> Any:
        """Run one pass and return the model's output as it is."""
        device = self._place()
        seed = secrets.randbits(62) if self.seed is None else self.seed
        runner = self._runner(seed, device)
        output = runner.one(batch, Span())
        self.check_rate_names(runner.sites)
        if not runner.sites:
            require_live(self.function, self.model, runner.sites)
        return output

    def sites(self, inputs: Any) -> tuple[DropoutSite, ...]:
        """Return the dropout calls that one pass over the first batch of `inputs` makes."""
        device = self._place()
        with torch.no_grad():
            batch = next(iter(self._reader(device).batches(inputs)))
            sites = self._runner(0, device).counted_sites(batch)
        self.check_rate_names(sites)
        return sites

    def check_rate_names(self, sites: Sequence[DropoutSite]) -> None:
        """Refuse rates for sites that do not exist."""
        known = {site.name for site in sites} | {site.name.split("#")[0] for site in sites}
        unknown = sorted(set(self.rates) - known - {""})
        if unknown:
            raise RangeError.of(
                self.function,
                "p",
                f"name dropout sites among {sorted(known)}",
                unknown,
                "Take the names from mc.sites(x)",
            )

    def _place(self) -> torch.device:
        """Return the device to run on: the one asked for, or the model's."""
        if self.device is not None:
            return torch.device(self.device)
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    def _runner(self, seed: int, device: torch.device) -> PassRunner:
        return PassRunner(
            self.function,
            structural_copy(self.model, device=device, dtype=self.dtype),
            MaskSource(seed, device, stratified=self.stratified),
            select=self.select,
            rates=self.rates,
            stochastic=self.stochastic,
            masks=self.masks,
        )

    def _reader(self, device: torch.device) -> InputReader:
        return InputReader(self.function, self.model, device, self.dtype, self.batch_size)


class _Work:
    """The passes of one prediction, batch after batch, with what was decided on the first."""

    def __init__(self, settings: Sampler, runner: PassRunner, n_samples: int) -> None:
        self._settings = settings
        self._runner = runner
        self._n_samples = n_samples
        self._plan: Plan | None = None
        self._sites: tuple[DropoutSite, ...] = ()
        self._strategy: Strategy = "sequential"
        self._reason = ""
        self._chunk = 1
        self._rows: int | None = None

    def parts(self, batches: Iterator[Batch], bar: ProgressBar) -> Iterator[Batch]:
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
            bar.expect_more((len(starts) - 1) * self._n_samples)
            for start in starts:
                yield batch.rows(start, start + self._rows)

    def batch(
        self,
        number: int,
        batch: Batch,
        accumulator: Accumulator[Any],
        bar: ProgressBar,
    ) -> int:
        """Run all passes of one batch and return its number of rows."""
        if self._plan is None:
            self._plan = self._decide(batch)
        for first in range(0, self._n_samples, self._chunk):
            count = min(self._chunk, self._n_samples - first)
            chunk = self._passes(batch, Span(number, first, count))
            if first == 0 and number == 0:
                self._check_sites(self._runner.sites)
            if first == 0:
                self._check_rows(batch, chunk, number)
            accumulator.update(chunk)
            bar.advance(count)
        return int(chunk.shape[1])

    def record(self, seed: int, device: torch.device, seconds: float) -> Run:
        """Return the record of the whole prediction."""
        if self._plan is None:
            raise RuntimeError("record: no batch has run")
        return Run(
            strategy=self._strategy,
            reason=self._reason,
            n_samples=self._n_samples,
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
            settings.memory[key] = plan
        else:
            self._runner.adopt(plan)
        device = batch.tensors()[0].device
        self._strategy, self._reason = plan.strategy, plan.reason
        self._chunk = min(settings.sample_chunk or passes_that_fit(plan, device), self._n_samples)
        if settings.strategy is not None and settings.strategy != plan.strategy:
            self._strategy, self._reason = settings.strategy, "asked for"
        elif settings.strategy is None and self._chunk == 1 and plan.strategy == "vectorised":
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
        if self._strategy == "vectorised":
            try:
                return self._runner.vectorised(batch, span)
            except CANNOT_BATCH as error:
                if self._settings.strategy == "vectorised":
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
