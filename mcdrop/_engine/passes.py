"""How stochastic passes run: all at once under vmap, or one at a time.

Masks depend only on the number of the pass, so both ways draw the same ones and may be mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._engine.flops import FlopCounter
from mcdrop._engine.inputs import Batch
from mcdrop._engine.outputs import Select, select_tensor
from mcdrop._engine.record import Masks, Strategy
from mcdrop._engine.row_probe import row_layout
from mcdrop._fusion.placeholders import Deferred
from mcdrop._live.functorch import over_index
from mcdrop._live.last_layer import ClosedFormError, LastLayer
from mcdrop._live.mode import InPlaceError, LiveDropout, Pass
from mcdrop._live.rules import LAZY, LIVE, PLAIN, compute
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowLayout
from mcdrop._masks.source import MaskSource, Span
from mcdrop._twin.tracking import Tracker
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["CANNOT_BATCH", "PassRunner", "Plan"]

# What vmap raises for code it cannot batch. The plain model has run on the same inputs before,
# so an error of the model's own does not end up here.
CANNOT_BATCH = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)


_FIRST = Span()


@dataclass(frozen=True)
class Plan:
    """What one look at the model on its first batch decided.

    Attributes:
        strategy: How passes will run.
        reason: Why, in one sentence.
        sites: The dropout calls of one pass.
        output_numel: Elements of the plain model's output for the batch.
        dtype: Type of that output.
        widest: Numbers per pass in the largest tensor that comes after a dropout, as far as known.
        shared_work: Operations before the first dropout, which a vectorized call does once.
        work_per_pass: Operations after it, for each pass.
        rows: The row dimensions, where all rows share one mask.
        copies_inputs: Whether the model drops out its inputs in place and reads them again.
        defers: Whether dropout may be put off until a linear layer reads its result.
        last_site: The dropout call that is integrated in closed form, or None.
    """

    strategy: Strategy
    reason: str
    sites: tuple[DropoutSite, ...]
    output_numel: int
    dtype: torch.dtype
    widest: int = 0
    shared_work: int = 0
    work_per_pass: int = 0
    rows: RowLayout | None = None
    copies_inputs: bool = False
    defers: bool = False
    last_site: int | None = None


class PassRunner:
    """Runs passes of one model.

    Args:
        function: Public function to name in errors.
        twin: A structural copy of the model, in eval mode, that nobody else uses.
        source: Where masks come from.
        select: Which tensor of the output is the prediction.
        rates: Dropout rates that override the model's.
        stochastic: Module types and names whose own `training` flag gates their randomness.
        masks: "independent" or "shared".
        exact_last: Integrate the last dropout in closed form. Passes then return mean and
            variance of the output side by side, (..., 2).

    Attributes:
        sites: The dropout calls of the latest pass.
    """

    def __init__(
        self,
        function: str,
        twin: nn.Module,
        source: MaskSource,
        *,
        select: Select,
        rates: Mapping[str, float],
        stochastic: Iterable[type[nn.Module] | str],
        masks: Masks,
        exact_last: bool = False,
    ) -> None:
        self._function = function
        self._twin = twin
        self._source = source
        self._select = select
        self._rates = rates
        self._masks = masks
        self._shared: RowLayout | None = None
        self._copies_inputs = False
        self._defers = False
        self._exact_last = exact_last
        self._last_site: int | None = None
        self._protected = frozenset(
            tensor.untyped_storage().data_ptr() for tensor in (*twin.parameters(), *twin.buffers())
        )
        self._tracker = Tracker(function, twin, stochastic)
        self.sites: tuple[DropoutSite, ...] = ()
        self._widest = 0
        self._work_before: list[int] = []

    def plan(self, batch: Batch) -> Plan:
        """Decide the strategy: vectorized if, with every mask open, it reproduces the model."""
        plain = self.plain(batch)
        if self._masks == "shared":
            self._shared = row_layout(self._function, self._observed, batch)
        # Where putting dropout off fails, do without.
        for defers in (True, False):
            self._defers = defers
            reason, shared_work, work_per_pass = self._checked(batch, plain)
            if shared_work is not None:
                return self._planned("vectorized", reason, plain, shared_work, work_per_pass)
        try:
            self.one(batch, opened=True)
        except InPlaceError:
            # The model drops out its inputs in place and reads them again.
            self._copies_inputs = True
            self.one(batch, opened=True)
        return self._planned("sequential", reason, plain)

    def _checked(self, batch: Batch, plain: Tensor) -> tuple[str, int | None, int]:
        """Run passes at once with every mask open, which must reproduce the model.

        Returns:
            What came of it; the operations before the first dropout, None if it failed; and those
            after it, for each pass.
        """
        try:
            with FlopCounter() as counter:
                opened = self.vectorized(batch, Span(count=2), opened=True, flops=counter)
        except CANNOT_BATCH as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"the model cannot be batched over passes: {lines[0]}", None, 0
        difference = _difference(opened, plain)
        if difference is not None:
            what = "batched over passes, with every mask open, the output is off by"
            return f"{what} {difference}", None, 0
        before = self._work_before[0] if self._work_before else 0
        after = (counter.total - before) // 2
        return "with every mask open it reproduces model(x)", before, after

    def adopt(self, plan: Plan) -> None:
        """Take over what an earlier look at the same model and inputs found out."""
        self._shared, self._copies_inputs = plan.rows, plan.copies_inputs
        self._last_site, self._defers = plan.last_site, plan.defers

    def _planned(
        self, strategy: Strategy, reason: str, plain: Tensor, before: int = 0, after: int = 0
    ) -> Plan:
        return Plan(
            strategy,
            reason,
            self.sites,
            plain.numel(),
            plain.dtype,
            max(plain.numel(), self._widest),
            before,
            after,
            self._shared,
            self._copies_inputs,
            self._defers,
        )

    def integrate_last(self, batch: Batch) -> int:
        """Find the dropout call to integrate in closed form; refuse if there is none.

        Args:
            batch: The inputs.

        Raises:
            UnsupportedError: If the last dropout does not feed the output layer alone.
        """
        live = [site for site in self.sites if site.fired]
        current = self._pass(batch, Span(), False)
        current.last = LastLayer(live[-1].order, probing=True)
        output = self._chosen(self._live(batch, current))
        problem = current.last.problem
        if not problem and not current.last.came_through(output):
            problem = "the output is not that of a linear layer after it"
        if problem:
            raise self._no_closed_form(f"{live[-1].name}: {problem}")
        self._last_site = live[-1].order
        return self._last_site

    def vectorized(
        self,
        batch: Batch,
        span: Span,
        *,
        opened: bool = False,
        flops: FlopCounter | None = None,
    ) -> Tensor:
        """Run passes in one call; what comes before the first dropout is computed once.

        Args:
            batch: The rows.
            span: The passes.
            opened: Keep every unit.
            flops: Counts the work, if given.

        Returns:
            Outputs, (span.count, n, ...).
        """

        def one(index: Tensor) -> Tensor:
            current = self._pass(batch, span, opened, index)
            if flops is not None:
                current.flops = lambda: flops.total
            return self._outcome(batch, current)

        index = torch.arange(span.count, device=batch.tensors()[0].device)
        if opened:
            checked: Tensor = torch.func.vmap(one, randomness="error")(index)
            return checked
        passes = over_index(one, index)
        if self._defers and bool(passes.isnan().any()):
            # Perhaps from a placeholder that was read unseen; what is put off is given up.
            self._defers = False
            passes = over_index(one, index)
        return self._kept(passes)

    def sequential(self, batch: Batch, span: Span) -> Tensor:
        """Run passes one after the other; arguments and result as for `vectorized`."""
        numbers = range(span.first, span.first + span.count)
        spans = (Span(span.batch, number) for number in numbers)
        passes = (self._outcome(batch, self._pass(batch, each, False)) for each in spans)
        return torch.stack([self._kept(output) for output in passes])

    def release(self) -> None:
        """Free the memory set aside for passes; hooks on the copy keep this object alive."""
        self._source.release()

    def one(self, batch: Batch, span: Span = _FIRST, *, opened: bool = False) -> Any:
        """Run one pass and return the model's output as it is."""
        return self._live(batch, self._pass(batch, span, opened))

    def _kept(self, output: Tensor) -> Tensor:
        """Copy an output that lies in a buffer, which the next pass writes to."""
        return output.clone() if self._source.workspace.holds(output) else output

    def counted_sites(self, batch: Batch) -> tuple[DropoutSite, ...]:
        """Run one pass with every unit kept; return its dropout calls with their FLOP shares."""
        current = self._pass(batch, Span(), True)
        with FlopCounter() as counter:
            current.flops = lambda: counter.total
            self._live(batch, current)
        total = counter.total
        return tuple(
            replace(site, flops_before=before / total if total else 0.0)
            for site, before in zip(current.sites, current.flops_before, strict=True)
        )

    def _pass(self, batch: Batch, span: Span, opened: bool, index: Tensor | None = None) -> Pass:
        """Make the pass; with shared masks it is the same for every batch."""
        last = None if opened or self._last_site is None else LastLayer(self._last_site)
        own = frozenset(tensor.untyped_storage().data_ptr() for tensor in batch.tensors())
        return Pass(
            LIVE,
            self._source,
            opened,
            self._rates,
            Span(0, span.first, span.count) if self._masks == "shared" else span,
            index,
            last=last,
            deferred=Deferred(compute) if self._defers and index is not None else None,
            lazy=LAZY,
            shared=self._shared,
            protected=self._protected if self._copies_inputs else self._protected | own,
        )

    def _observed(self, batch: Batch, opened: bool) -> Pass:
        """Run one pass and return it with all that it saw."""
        current = self._pass(batch, Span(), opened)
        current.observed = []
        self._live(batch, current)
        return current

    def plain(self, batch: Batch) -> Tensor:
        """Run the model as it is, without touching the caller's random state."""
        self._tracker.begin(None)
        with LiveDropout(Pass(PLAIN, self._source, True, {}, Span())):
            output = self._twin(*batch.args, **batch.kwargs)
        return self._chosen(output)

    def _live(self, batch: Batch, current: Pass) -> Any:
        """Run the model once with live dropout."""
        self._tracker.begin(current)
        if self._copies_inputs:
            batch = batch.copied()
        with LiveDropout(current):
            output = self._twin(*batch.args, **batch.kwargs)
        if current.overwritten:
            current.check_not_read(output)
        self.sites = tuple(current.sites)
        self._work_before = current.flops_before
        return output

    def _no_closed_form(self, found: str) -> McdropError:
        """Make the error for a last dropout that cannot be integrated."""
        return UnsupportedError.of(
            self._function,
            "exact_last",
            "be True only where the last dropout feeds the output layer alone",
            found,
            "Leave exact_last out",
        )

    def _outcome(self, batch: Batch, current: Pass) -> Tensor:
        """Run the model and return its prediction, with its variance if that is integrated."""
        output = self._live(batch, current)
        # What selects may compute with what was put off.
        with LiveDropout(current) if current.deferred else nullcontext():
            output = self._chosen(output)
        output = current.read(output)
        put_off = 0 if current.deferred is None else current.deferred.widest
        self._widest = max(current.widest, put_off)
        if current.last is None:
            return output
        try:
            return current.last.paired(output)
        except ClosedFormError as error:
            raise self._no_closed_form(str(error)) from error

    def _chosen(self, output: Any) -> Tensor:
        return select_tensor(self._function, output, self._select)


def _difference(opened: Tensor, plain: Tensor) -> str | None:
    """Describe how the opened passes differ from the plain output; None if they agree.

    Batched kernels round differently, and deep networks amplify it, hence the wide tolerance; a
    wrong broadcast is off by far more.
    """
    if opened.shape[1:] != plain.shape:
        return f"its shape, {tuple(opened.shape[1:])} for {tuple(plain.shape)}"
    if opened.dtype != plain.dtype:
        return f"its type, {opened.dtype} for {plain.dtype}"
    scale = plain[plain.isfinite()].abs().amax().item() if bool(plain.isfinite().any()) else 0.0
    tolerance = torch.finfo(plain.dtype).eps ** 0.5 * (scale + 1e-30)
    if torch.allclose(opened, plain.expand_as(opened), rtol=0, atol=tolerance, equal_nan=True):
        return None
    return f"{(opened - plain).abs().nan_to_num().amax().item():.2g}"
