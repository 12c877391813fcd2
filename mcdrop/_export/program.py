"""The module that is exported: a model, the masks of its passes, and the summary of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mcdrop._engine.batch import Batch
from mcdrop._engine.outputs import Selection
from mcdrop._export.folding import FoldedCall, Folding
from mcdrop._export.summary import Summary
from mcdrop._live.call import Seen
from mcdrop._trees import mapped, tensors
from mcdrop._twin.tracking import Tracker

__all__ = ["Program"]


class Program(nn.Module):
    """Runs all passes of a model as one call, and returns their summary by name.

    The first run draws the masks and keeps them as buffers.

    Args:
        model: The copy of the caller's model.
        tracker: Its hooks.
        call: What a forward call is given.
        selection: Which tensor of the output is the prediction.
        summary: Turns passes, (S, n, ...), into named tensors.
        at_input: Whether rows are repeated for every pass before anything else runs.

    Attributes:
        names: Names of what it returns, in order.
        at_input: Whether rows are repeated at the input.
    """

    def __init__(
        self,
        model: nn.Module,
        tracker: Tracker,
        call: FoldedCall,
        selection: Selection,
        summary: Summary,
        *,
        at_input: bool,
    ) -> None:
        super().__init__()
        self.names: tuple[str, ...] = summary.names
        self.model = model
        self.summary = summary
        self._tracker, self._call, self._selection = tracker, call, selection
        self.at_input = at_input

    def forward(self, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
        """Run the passes on what the model takes."""
        masks = {order: getattr(self, name) for order, name in self._masks().items()}
        call = replace(self._call, constants=masks, seen=Seen())
        self._tracker.begin(call)
        inputs = list(tensors((args, kwargs)))
        n_rows = inputs[0].shape[0]
        if self.at_input:
            args, kwargs = mapped((args, kwargs), self._repeated)
        with Folding(call, inputs, n_rows, at_input=self.at_input):
            output = self.model(*args, **kwargs)
        passes = self._selection.pick("export", output).unflatten(0, (call.n_passes, n_rows))
        for order in masks.keys() - self._masks().keys():
            self.register_buffer(f"mask_{order}", masks[order])
        found: Mapping[str, Tensor] = self.summary(passes)
        return found

    def parameters_of(self, batch: Batch) -> list[str]:
        """Return the names of the arguments, as the model's forward calls them."""
        names = [*inspect.signature(self.model.forward).parameters][: len(batch.args)]
        if len(names) < len(batch.args) or not set(names).isdisjoint(batch.kwargs):
            names = [f"input_{number}" for number, _ in enumerate(batch.args)]
        return [*names, *batch.kwargs]

    def input_names(self, batch: Batch) -> list[str]:
        """Return the names of the tensors among the arguments."""
        names = self.parameters_of(batch)
        values = (*batch.args, *batch.kwargs.values())
        if all(isinstance(x, Tensor) for x in values):
            return names
        return [f"input_{number}" for number, _ in enumerate(batch.tensors())]

    def take_by_name(self, batch: Batch) -> None:
        """Give `forward` the names of its arguments in place of any number of them."""
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = self.parameters_of(batch)
        run, n_args = self.forward, len(batch.args)

        def forward(*args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
            given = dict(zip(names, args, strict=False)) | kwargs
            first = [given.pop(name) for name in names[:n_args]]
            return run(*first, **given)

        signature = inspect.Signature([inspect.Parameter(name, either) for name in names])
        forward.__signature__ = signature  # type: ignore[attr-defined]
        self.__dict__["forward"] = forward

    def _repeated(self, x: Tensor) -> Tensor:
        return x.repeat(self._call.n_passes, *(1 for _ in x.shape[1:]))

    def _masks(self) -> dict[int, str]:
        """Return the names of the buffers of masks, by the number of the site."""
        return {
            int(n[5:]): n for n, _ in self.named_buffers(recurse=False) if n.startswith("mask_")
        }
