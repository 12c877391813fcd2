"""The two ways to run stochastic passes: a chunk in one call under vmap, or one at a time.

Masks depend only on the number of the pass, so both ways draw the same ones and may be mixed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.batch import Batch, owned
from mcdrop._engine.flops import FlopCounter
from mcdrop._engine.in_use import TwinInUse
from mcdrop._engine.outputs import shape_changes
from mcdrop._engine.plan import Plan
from mcdrop._engine.settings import Settings
from mcdrop._fusion.placeholders import Placeholders
from mcdrop._live.call import Call, Seen, SharedWriteError
from mcdrop._live.checkpointing import refuse_gradients
from mcdrop._live.functorch import over_index
from mcdrop._live.global_random import run_seeded_if_random, run_unmoved, seeded
from mcdrop._live.last_layer import ClosedFormError, LastLayer
from mcdrop._live.mode import LiveDropout
from mcdrop._live.multipliers import Multipliers
from mcdrop._live.rules import ACCEPTING, PLAIN, compute, live_rules
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.source import Span
from mcdrop._twin.drift import Changes, changed, contents
from mcdrop._twin.recall import Chosen, Recall, Recalling

__all__ = ["CANNOT_BATCH", "Passes"]

# What vmap raises for code it cannot batch. The plain model has run on the same inputs before,
# so an error of the model's own does not end up here.
CANNOT_BATCH = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)

_FIRST = Span()

# Where there are fewer of both, operators take no longer than their bookkeeping.
_MANY_WEIGHTS, _MANY_NUMBERS = 2**16, 2**14

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@functools.cache
def _load_decompositions() -> None:
    """Run something under ``torch.func.vmap``, which loads what some operations need below it."""
    torch.func.vmap(torch.neg)(torch.zeros(1, device="cpu"))


def _sharing_no_writes(
    method: Callable[Concatenate[Passes, Arguments], Result],
) -> Callable[Concatenate[Passes, Arguments], Result]:
    """Run again, with a parameter of its own, where the model writes to one of the caller's."""

    @functools.wraps(method)
    def run(self: Passes, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        while True:
            try:
                return method(self, *args, **kwargs)
            except SharedWriteError as error:
                self.copy.own_parameter(error.address)

    return run


class Passes:
    """Runs passes of a private copy of the model.

    Args:
        settings: Settings of the prediction.
        seed: Seed of the masks.
        device: Where to run the copy.

    Attributes:
        seen: What was seen of the latest forward call.
        used_globals: Whether the latest single pass used torch's, NumPy's or Python's generator.
        copy: The copy of the model.
        recall: What costly operators returned for a batch, until its first chunk has run.
    """

    def __init__(self, settings: Settings, seed: int, device: torch.device) -> None:
        self.seen = Seen()
        self.used_globals = False
        self._settings = settings
        self._device = device
        self._source = settings.source(seed, device)
        self._rules = live_rules()
        # What the user accepts as stochastic may draw where it cannot be seen.
        self._threads = bool(settings.stochastic)
        self.copy = TwinInUse(settings, device)
        self.recall: Recall | None = None

    @_sharing_no_writes
    def vectorized(self, plan: Plan, batch: Batch, span: Span) -> Tensor:
        """Run passes in one call; what comes before the first dropout is computed once.

        Args:
            plan: How.
            batch: The rows.
            span: The passes.

        Returns:
            Outputs, (span.count, n, ...); where the last dropout is integrated or redrawn, what
            `LastLayer.paired` puts beside them is along a further dimension.
        """
        index = torch.arange(span.count, device=self._device)
        with self._recalling():
            self.recall = None
            outputs = over_index(lambda i: self._output(plan, batch, span, i), index)
        return self._kept(self._closed(plan, outputs))

    @_sharing_no_writes
    def sequential(self, plan: Plan, batch: Batch, span: Span) -> Tensor:
        """Run passes one after the other; arguments and result as for `vectorized`."""
        self.recall, outputs = None, []
        for number in range(span.first, span.first + span.count):
            each = replace(span, first=number, count=1)
            with self._globals(plan, each):
                outputs.append(self._kept(self._output(plan, batch, each, None)))
        shapes = {output.shape for output in outputs}
        if len(shapes) > 1:
            raise shape_changes(self._settings.function, shapes)
        return self._closed(plan, torch.stack(outputs))

    @_sharing_no_writes
    def opened(
        self,
        plan: Plan,
        batch: Batch,
        n_passes: int,
        flops: FlopCounter,
        chosen: Chosen | None = None,
    ) -> Tensor:
        """Run passes in one call with every unit kept; it has to reproduce the model.

        Args:
            plan: How.
            batch: The rows.
            n_passes: How many.
            flops: Counts the work.
            chosen: Which of the rows that were run before these are.

        Returns:
            Outputs, (n_passes, n, ...).
        """
        span = Span(count=n_passes)
        _load_decompositions()

        def one(index: Tensor) -> Tensor:
            return self._output(plan, batch, span, index, opened=True, flops=flops)

        def run() -> Tensor:
            index = torch.arange(n_passes, device=self._device)
            with self._recalling(chosen), flops:
                passes = over_index(one, index)
            if self.copy.twin.tracker.has_random_gates:
                # Their numbers are drawn in a live pass only.
                self.vectorized(plan, batch, span)
            return passes

        passes, draws = run_unmoved(run, threads=self._threads)
        if draws:
            raise RuntimeError("it draws random numbers that would be the same for all passes")
        return passes

    @_sharing_no_writes
    def one(self, /, plan: Plan, batch: Batch, span: Span = _FIRST, **given: Any) -> Any:
        """Run one pass, given what `_call` takes, and return the model's output as it is."""
        output, self.used_globals = run_seeded_if_random(
            # It may run several times, and a call counts its sites.
            lambda: self._live(batch, self._call(plan, span, **given)),
            self._source.seed_of_pass(span),
            threads=self._threads,
        )
        return output

    @_sharing_no_writes
    def observed(self, plan: Plan, batch: Batch, opened: bool) -> Seen:
        """Run one pass and return what was seen, with what every site was given."""

        def run() -> Seen:
            call = replace(self._call(plan, _FIRST, opened=opened), seen=Seen(dropped=[]))
            self._live(batch, call)
            return call.seen

        seed = self._source.seed_of_pass(_FIRST)
        return run_seeded_if_random(run, seed, threads=self._threads)[0]

    @_sharing_no_writes
    def plain(self, batch: Batch) -> Tensor:
        """Run the model as it is, without touching the caller's random state; note its sites."""

        def run() -> Any:
            call = Call(PLAIN, self._source, True, _FIRST, shared=self.copy.shared)
            self.copy.twin.tracker.begin(call, is_plain=True)
            self.seen = call.seen
            return self._run(batch, call)

        seed = self._source.seed_of_pass(_FIRST)
        return self.picked(run_seeded_if_random(run, seed, threads=self._threads)[0])

    def left_behind(self, batch: Batch) -> tuple[Changes, Tensor]:
        """Run the model as it is; return what it changed for good, and its output."""
        before = contents(self.copy.twin.module)
        output = self.plain(batch)
        return changed(before, contents(self.copy.twin.module)), output

    @_sharing_no_writes
    def counted_sites(self, batch: Batch) -> tuple[DropoutSite, ...]:
        """Run one pass with every unit kept; return its dropout calls with their FLOP shares."""
        with FlopCounter() as counter:
            call = self._call(Plan(), _FIRST, opened=True, flops=counter)
            self._live(batch, call)
        total = counter.total
        return tuple(
            replace(site, flops_before=before / total if total else 0.0)
            for site, before in zip(call.seen.sites, call.seen.flops_before, strict=True)
        )

    def site_to_integrate(self, plan: Plan, batch: Batch) -> int:
        """Find the last dropout call; refuse if it does not feed the output layer alone.

        Raises:
            UnsupportedError: If the closed form does not apply.
        """
        last = [site for site in plan.sites if site.fired][-1]
        probe = LastLayer(last.order, probing=True)
        call = replace(self._call(plan, _FIRST), last=probe)
        with self._recalling():
            output = self.picked(self._live(batch, call))
        problem = probe.problem
        if not (problem or probe.came_through(output)):
            problem = "the output is not that of a linear layer after it"
        if problem:
            raise self._settings.no_closed_form(f"{last.name}: {problem}")
        return last.order

    def plain_kept(self, batch: Batch) -> Tensor:
        """Run the model as it is, and keep what passes over the same rows compute again."""
        n_numbers = sum(x.numel() for x in batch.tensors())
        is_large = self.copy.twin.n_weights >= _MANY_WEIGHTS or n_numbers >= _MANY_NUMBERS
        self.recall = Recall() if is_large and self._device.type == "cpu" else None
        with self._recalling():
            output = self.plain(batch)
        if self.recall is not None:
            self.keep(self.recall)
        return output

    def keep(self, recall: Recall) -> None:
        """Keep what costly operators returned, where that spares time."""
        recall.holds = False
        # Another device would have to be waited for to compare.
        is_of_use = self._device.type == "cpu" and not recall.is_empty
        self.recall = recall if is_of_use else None

    def _recalling(self, chosen: Chosen | None = None) -> AbstractContextManager[object]:
        """Recall what costly operators returned for these rows, or for the chosen among them."""
        if self.recall is None:
            return nullcontext()
        self.recall.chosen = chosen
        return Recalling(self.recall, self.copy.shared)

    def _globals(self, plan: Plan, span: Span) -> AbstractContextManager[object]:
        """Seed the global generators for a pass of a model that uses them."""
        if not plan.seeds_globals:
            return nullcontext()
        shared = self._settings.masks == "shared"
        return seeded(self._source.seed_of_pass(Span(0, span.first) if shared else span))

    def release(self) -> None:
        """Free the memory set aside for passes; hooks on the copy keep this object alive."""
        self.recall = None
        self._source.release()

    def _call(
        self,
        plan: Plan,
        span: Span,
        index: Tensor | None = None,
        *,
        opened: bool = False,
        flops: FlopCounter | None = None,
        multipliers: Multipliers | None = None,
    ) -> Call:
        """Make the forward call; with shared masks it is the same for every batch."""
        last = None if opened or plan.last_site is None else LastLayer(plan.last_site, plan.redraws)
        defers = plan.defers and index is not None
        return Call(
            self._rules,
            self._source,
            opened,
            Span(0, span.first, span.count) if self._settings.masks == "shared" else span,
            self._settings.rates,
            index,
            rows=plan.rows,
            shares_masks=self._settings.masks == "shared",
            last=last,
            multipliers=multipliers,
            placeholders=Placeholders(compute, ACCEPTING) if defers else None,
            protected=self.copy.weights,
            shared=self.copy.shared,
            flops=None if flops is None else lambda: flops.total,
        )

    def _live(self, batch: Batch, call: Call) -> Any:
        """Run the model once with live dropout."""
        self.copy.twin.tracker.begin(call)
        output = self._run(batch, call)
        if call.seen.overwritten:
            call.seen.check_not_read(output)
        if call.seen.checkpointed:
            refuse_gradients(output, call.seen.checkpointed)
        self.seen = call.seen
        return output

    def _run(self, batch: Batch, call: Call) -> Any:
        """Run the model once, and undo what it leaves behind."""
        own = batch.copied()
        try:
            try:
                with LiveDropout(call):
                    output = self.copy.twin.module(*own.args, **own.kwargs)
            finally:
                self.copy.twin.state.by_content |= call.seen.hands_out_memory
            # What the copy keeps is about to be restored.
            return owned(output) if self.copy.twin.state.shares(output) else output
        finally:
            self.copy.twin.state.restore()

    def _output(
        self,
        plan: Plan,
        batch: Batch,
        span: Span,
        index: Tensor | None,
        *,
        opened: bool = False,
        flops: FlopCounter | None = None,
    ) -> Tensor:
        """Run the model and return its prediction, with what `LastLayer` puts beside it."""
        call = self._call(plan, span, index, opened=opened, flops=flops)
        output = self._live(batch, call)
        # What selects may compute with placeholders.
        with LiveDropout(call) if call.placeholders else nullcontext():
            output = self.picked(output)
        output = call.read(output)
        if call.placeholders is not None:
            call.seen.widest = max(call.seen.widest, call.placeholders.widest)
        if call.last is None:
            return output
        try:
            return call.last.paired(output)
        except ClosedFormError as error:
            raise self._settings.no_closed_form(str(error)) from error

    def _closed(self, plan: Plan, outputs: Tensor) -> Tensor:
        """Refuse a closed form for outputs that are not those of the last layer."""
        if plan.last_site is None:
            return outputs
        if bool((outputs[..., 1:].isnan() & ~outputs[..., :1].isnan()).any()):
            changed_after = "an output that the model changes after its last layer"
            raise self._settings.no_closed_form(changed_after)
        return outputs

    def picked(self, output: Any) -> Tensor:
        """Return the tensor of a model's output that is the prediction."""
        return self._settings.selection.pick(self._settings.function, output)

    def _kept(self, output: Tensor) -> Tensor:
        """Copy an output that lies in a buffer, which the next pass writes to."""
        return output.clone() if self._source.workspace.holds(output) else output
