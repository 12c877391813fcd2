"""Looks at the model once for inputs of a kind and decides how its passes run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.agreement import agree
from mcdrop._engine.batch import Batch
from mcdrop._engine.control import most_scores, obstacle, row_dims
from mcdrop._engine.few_rows import Plain, few_rows, for_all_rows
from mcdrop._engine.flops import FlopCounter
from mcdrop._engine.passes import CANNOT_BATCH, Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.row_probe import known_rows, row_layout
from mcdrop._engine.settings import Settings
from mcdrop._engine.splitting import passes_that_fit, redraws, rows_that_fit, treats_rows_alone
from mcdrop._masks.rows import RowLayout
from mcdrop._masks.source import Span
from mcdrop.errors import McdropError, UnsupportedError

__all__ = ["Planner", "ran_out_of_memory"]

Found = TypeVar("Found")

_FILLS_MEMORY = "one pass over this batch already fills the memory set aside for it"


class Planner:
    """Owns what a look at the model decided; a wrapper's memory spares later predictions the look.

    Args:
        settings: Settings of the prediction.
        passes: Runs the model.
    """

    def __init__(self, settings: Settings, passes: Passes) -> None:
        self._settings = settings
        self._passes = passes
        self._is_watched = False

    def rows_per_call(self, batch: Batch) -> int | None:
        """Return the rows per call that keep memory bounded; None to pass the batch on whole."""
        rows = self._once("rows", batch, lambda: (rows_that_fit(self._passes, batch),))[0]
        return rows if rows is not None and self.rows_may_leave(batch) else None

    def rows_may_leave(self, batch: Batch) -> bool:
        """Tell whether rows can be left out of a batch without a change to the others.

        That is found out for every batch: another one of its shape may hold sequences of other
        lengths, or a larger entry.
        """
        return treats_rows_alone(self._passes, batch)

    def plan(self, batch: Batch, n_passes: int, *, rows_split: bool) -> Plan:
        """Return the plan for batches like this one.

        Args:
            batch: The rows, on the device.
            n_passes: Passes in all.
            rows_split: Whether the rows were split to save memory.

        Raises:
            NoDropoutError: If nothing in the model became random.
            UnsupportedError: If a strategy or a closed form was asked for that is not possible.
        """
        plan = self._once("plan", batch, lambda: self._look(batch))
        if self._settings.redraws and plan.last_site is not None:
            count = redraws(plan, n_passes, asked=self._settings.control_variate is True)
            plan = replace(plan, last_site=plan.last_site if count else None, redraws=count)
        fitting = passes_that_fit(plan, self._settings.place(), rows_split=rows_split)
        plan = replace(plan, chunk=min(self._settings.sample_chunk or fitting, n_passes))
        plan = self._controlled(plan, n_passes)
        asked = self._settings.strategy
        if asked == "vectorized" and plan.strategy != asked:
            raise self.cannot_vectorize(plan.reason)
        if asked == "sequential" and plan.strategy != asked:
            return replace(plan, strategy=asked, reason="asked for")
        if asked == "auto" and plan.chunk == 1 and plan.strategy == "vectorized":
            return replace(plan, strategy="sequential", reason=_FILLS_MEMORY)
        return plan

    def forgo(self, batch: Batch, **changes: Any) -> None:
        """Let later predictions of such batches do without something as well.

        Args:
            batch: The first batch.
            changes: What changes in its plan.
        """
        key = self._key("plan", batch)
        plan = self._settings.memory.recall(key)
        if plan is not None:
            self._settings.memory.keep(key, replace(plan, **changes))

    def cannot_vectorize(self, reason: str) -> McdropError:
        """Make the error for a strategy that was asked for and is not possible."""
        return UnsupportedError.of(
            self._settings.function,
            "strategy",
            "be 'auto' or 'sequential' for this model",
            f"'vectorized': {reason}",
            "Leave it out",
        )

    def _key(self, what: str, batch: Batch) -> tuple[object, ...]:
        return (what, batch.signature(), self._passes.copy.signature)

    def _once(self, what: str, batch: Batch, find: Callable[[], Found]) -> Found:
        """Return what is remembered for batches of this kind, or find it; watch the first."""
        if not self._is_watched:
            self._passes.copy.watch(batch)
            self._is_watched = True
        key = self._key(what, batch)
        found: Found | None = self._settings.memory.recall(key)
        if found is None:
            found = find()
            self._settings.memory.keep(key, found)
        return found

    def _look(self, batch: Batch) -> Plan:
        """Decide how passes run, by a look at few rows where these can stand for all."""
        few, plan = few_rows(batch), None
        # Few rows may be refused by the model in whatever way it likes.
        with suppress(Exception):
            if few is not batch and few.n_rows and batch.n_rows:
                plan = for_all_rows(self._look_at(few, batch), few.n_rows, batch.n_rows)
        return self._with_closed_forms(plan or self._look_at(batch, batch), batch)

    def _with_closed_forms(self, plan: Plan, batch: Batch) -> Plan:
        """Add what is known without drawing: the last mask, and what is linear in the others."""
        # Few outputs would not show every function that changes them.
        plan = replace(plan, last_site=self._last_site(plan, batch))
        if self._settings.control_variate is True:
            plan = replace(plan, linear=row_dims(self._settings, self._passes, plan, batch))
        return plan

    def _look_at(self, part: Batch, whole: Batch) -> Plan:
        """Decide the strategy: vectorized if, with every mask open, it reproduces the model.

        Args:
            part: The rows that are looked at.
            whole: The rows that they are taken from.
        """
        plain = Plain(self._passes, part, whole)
        shared = self._settings.masks == "shared"
        layout = partial(row_layout, self._settings.function, self._passes.observed)
        rows: RowLayout | None = None
        if shared and self._passes.copy.twin.tracker.has_random_gates:
            # Their random numbers have rows as well.
            rows = layout(Plan(), part)
        # Where deferring fails, do without.
        for defers in (True, False) if self._passes.copy.may_defer else (False,):
            plan, draws = self._vectorized(Plan(rows=rows, defers=defers), part, plain)
            if plan.strategy == "vectorized":
                break
        if shared and rows is None:
            rows = None if draws else plain.rows_of(plan)
            plan = replace(plan, rows=rows or layout(Plan(), part))
        if plan.strategy != "vectorized":
            plan = self._sequential(plan, part, plain)
        if not shared:
            rows = plain.rows_of(plan) or known_rows(self._passes.observed, plan, part)
            plan = replace(plan, rows=rows)
        elif plan.seeds_globals:
            self._check_rows_share(plan, part)
        self._settings.check_sites(plan.sites)
        self._settings.check_live(plan.sites)
        plain.let_go()
        return plan

    def _last_site(self, plan: Plan, batch: Batch) -> int | None:
        """Return the dropout call that is integrated in closed form or redrawn, or None."""
        settings = self._settings
        asked = settings.control_variate is True
        may_redraw = settings.redraws and redraws(plan, 1, asked=asked) > 0
        if not settings.exact_last and not may_redraw:
            return None
        alone = sum(site.fired for site in plan.sites) == 1
        if settings.exact_last == "auto" and not asked and not alone:
            # With others before it, it costs more time and memory than its mask.
            return None
        try:
            return self._passes.site_to_integrate(plan, batch)
        except CANNOT_BATCH:
            if self._settings.exact_last is True:
                raise
        return None

    def _controlled(self, plan: Plan, n_passes: int) -> Plan:
        """Decide whether the linearized network is the control variate of so many passes."""
        if self._settings.control_variate is not True:
            return plan
        # An earlier prediction may have found that there are no gradients.
        most = most_scores(self._settings, plan.output_ndim)
        reason = plan.control or obstacle(plan, n_passes, most_outputs=most)
        if reason and plan.last_site is None and self._settings.scores is None:
            raise self._settings.no_control(reason)
        return replace(plan, linear=(), control=reason) if reason else plan

    def _vectorized(self, draft: Plan, batch: Batch, plain: Plain) -> tuple[Plan, bool]:
        """Run passes at once with every mask open, which must reproduce the model.

        Returns:
            The plan, and whether the model draws random numbers of its own.
        """
        try:
            counter = FlopCounter()
            opened = self._passes.opened(draft, batch, 2, counter, plain.chosen)
        except CANNOT_BATCH as error:
            if ran_out_of_memory(error):
                return replace(draft, reason=_FILLS_MEMORY), False
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"the model cannot be batched over passes: {lines[0]}"
            return replace(draft, reason=reason), False
        seen = self._passes.seen
        difference = _difference(opened, plain.output)
        if difference is not None and not plain.is_own:
            # What rows return may depend on the others.
            plain.run()
            difference = _difference(opened, plain.output)
        if difference is not None:
            what = "batched over passes, with every mask open, the output is off by"
            return replace(draft, reason=f"{what} {difference}"), False
        before = seen.flops_before[0] if seen.flops_before else 0
        plan = replace(
            draft,
            strategy="vectorized",
            reason="with every mask open it reproduces model(x)",
            sites=tuple(seen.sites),
            dtype=plain.output.dtype,
            output_numel=plain.output.numel(),
            output_ndim=plain.output.ndim,
            widest=max(plain.output.numel(), seen.widest),
            largest=max(1, seen.largest),
            work_before=before,
            work_per_pass=(counter.total - before) // 2,
        )
        return plan, seen.random_calls > 0

    def _sequential(self, draft: Plan, batch: Batch, plain: Plain) -> Plan:
        """Run one pass with every unit kept to see its sites.

        The plain model may differ: it draws numbers of its own, has a rate of one, or reads what it
        dropped out elsewhere. Kernels with a registered rule must not.
        """
        if not plain.is_own:
            plain.run()
        draft = replace(
            draft,
            defers=False,
            dtype=plain.output.dtype,
            output_numel=plain.output.numel(),
            output_ndim=plain.output.ndim,
        )
        output = self._passes.one(draft, batch, opened=True)
        opened = self._settings.selection.pick(self._settings.function, output)
        seen = self._passes.seen
        difference = _difference(opened[None], plain.output)
        if difference is not None and seen.used_registered:
            raise UnsupportedError.of(
                self._settings.function,
                "model",
                "return with every unit kept what it does in eval mode",
                f"an output that is off by {difference}",
                "Check what is registered with mcdrop.register_rule for its kernels",
            )
        if difference is not None:
            self._check_repeats(batch)
        # Modules that draw their own numbers do so in a live pass only.
        self._passes.one(draft, batch)
        return replace(
            draft,
            sites=tuple(seen.sites),
            widest=max(draft.output_numel, seen.widest),
            seeds_globals=self._passes.used_globals,
        )

    def _check_repeats(self, batch: Batch) -> None:
        """Refuse a model whose calls change what later ones return, in a way not undone.

        A generator of its own gives every pass numbers of its own, as it should.
        """
        first = self._passes.plain(batch)
        found, second = self._passes.left_behind(batch)
        difference = _difference(second[None], first)
        if difference is None or (found.generators and not found.names):
            return
        names = ", ".join(found.names[:3]) or "nothing that could be named"
        raise UnsupportedError.of(
            self._settings.function,
            "model",
            "return the same for the same inputs in eval mode",
            f"outputs that differ by {difference} from one call to the next; it changes {names}",
            "Keep what changes in attributes of the module",
        )

    def _check_rows_share(self, plan: Plan, batch: Batch) -> None:
        """Refuse shared masks for a model whose own random numbers differ between equal rows."""
        if batch.n_rows is None:
            return
        first, second = self._passes.sequential(plan, batch.take([0, 0]), Span())[0]
        if not torch.allclose(first, second, equal_nan=True):
            raise UnsupportedError.of(
                self._settings.function,
                "masks",
                "be 'independent' for a model with random numbers that cannot be shared by rows",
                "'shared', and equal rows with different outputs",
                "Drop units with torch.nn.functional.dropout",
            )


def ran_out_of_memory(error: Exception) -> bool:
    """Tell whether a device or the CPU ran out of memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _difference(opened: Tensor, plain: Tensor) -> str | None:
    """Describe how the opened passes differ from the plain output; None if they agree.

    Batched kernels round differently, and deep networks amplify it, hence the wide tolerance; a
    wrong broadcast is off by far more.
    """
    if opened.shape[1:] != plain.shape:
        return f"its shape, {tuple(opened.shape[1:])} for {tuple(plain.shape)}"
    if opened.dtype != plain.dtype:
        return f"its type, {opened.dtype} for {plain.dtype}"
    if all(agree(each, plain, torch.finfo(plain.dtype).eps ** 0.5) for each in opened):
        return None
    return f"{(opened - plain).abs().nan_to_num().amax().item():.2g}"
