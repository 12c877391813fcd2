"""The copy of the model that one prediction uses: taken from the spare ones, or made."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch

from mcdrop._engine.batch import Batch
from mcdrop._engine.settings import Settings, Signature
from mcdrop._live.functorch import sees_writes
from mcdrop._live.memory import address
from mcdrop._live.rules.registry import registrations
from mcdrop._twin.copy import written_to
from mcdrop._twin.recall import Recall
from mcdrop._twin.twin import Twin
from mcdrop._twin.watch import Watched, watch

__all__ = ["TwinInUse"]

# Code may drop units for more than a few rows alone; what is not watched would be lost in silence.
_ROWS_WATCHED = 16


class TwinInUse:
    """A copy of the model, with what this prediction has decided about it.

    Args:
        settings: Settings of the prediction.
        device: Where to run the copy.

    Attributes:
        twin: The copy.
        may_defer: Whether the model may be handed placeholders.
        signature: What plans depend on besides the inputs.
        weights: Storage addresses of its parameters and buffers.
        shared: Storage addresses of the parameters that are shared with the caller's model.
        found: What watching a training run decided, if one was watched.
        plain: What the model returned for the rows that were watched, right after that.
        recall: What costly operators returned for these rows.
        watched: That in one sentence; empty if nothing.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self._settings = settings
        self._device = device
        self._own: frozenset[int] = frozenset()
        self.found: Watched | None = None
        self.watched = ""
        self.plain: Any = None
        self.recall = Recall()
        spare = settings.memory.spares.take(self._kind(), settings.model)
        self._use(spare or self._made())

    def own_parameter(self, at: int) -> None:
        """Go on with a copy that has a parameter of its own, which it is about to write to.

        Args:
            at: Storage address of the parameter.
        """
        for x in self._settings.model.parameters():
            if address(x) == at:
                self._own = self._own | {id(x)}
        self._use(self._made())

    def keep(self) -> None:
        """Keep the copy for later predictions, once this one needs it no longer."""
        self._settings.memory.spares.keep(self._kind(), self.twin)

    def watch(self, batch: Batch) -> None:
        """Decide which training flags to set by watching a run, once for batches of a kind.

        Raises:
            UnsupportedError: If dropout fires in training that cannot be made live.
        """
        if not self.twin.may_read_flags:
            return
        few = batch.first(_ROWS_WATCHED)
        memory = self._settings.memory
        key = ("watched", few.signature(), self.signature)
        found: Watched | None = memory.recall(key)
        if found is None:
            found = self._watched(few)
            if not found.ran and few is not batch:
                # Rows may belong together, as the nodes of a graph do.
                found = self._watched(batch)
            # What is registered may return something else, as the look at the model finds out.
            self.plain = None if registrations() else found.output
            found = replace(found, output=None)
            memory.keep(key, found)
        self.found, self.watched = found, found.summary
        self.twin.tracker.settle(found)

    def _watched(self, batch: Batch) -> Watched:
        self.recall = Recall()

        def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
            own = batch.copied()
            return own.args, own.kwargs

        found = watch(
            self._settings.model,
            inputs,
            device=self._device,
            dtype=self._settings.dtype,
            excluded=self.twin.tracker.asked_for,
            recall=self.recall,
        )
        return replace(found, n_rows=batch.n_rows)

    def _made(self) -> Twin:
        """Copy the model; parameters that it writes to are copied as well, all others shared."""
        settings = self._settings
        self._own = self._own | written_to(settings.model)
        return Twin(
            settings.function,
            settings.model,
            settings.stochastic,
            device=self._device,
            dtype=settings.dtype,
            own=self._own,
        )

    def _use(self, twin: Twin) -> None:
        self.twin = twin
        if twin.structure is None:
            twin.structure = self._settings.structure()
        self.signature = Signature(self._settings.signature(twin.structure))
        # Hooks of the user's have to see values. Elsewhere deferring saves less than it costs.
        on_cpu = self._device.type == "cpu"
        self.may_defer = on_cpu and sees_writes() and not twin.has_hooks
        if self.found is not None:
            twin.tracker.settle(self.found)
        self.weights, self.shared = twin.weights, twin.shared

    def _kind(self) -> Hashable:
        """Return what a copy depends on besides the model."""
        settings = self._settings
        return (
            settings.function,
            settings.stochastic,
            registrations(),
            (str(self._device), settings.dtype, torch.is_inference_mode_enabled()),
        )
