"""How stochastic passes run: all at once under vmap, or one at a time.

Masks depend only on the number of the pass, so both ways draw the same ones and may be mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop.engine.inputs import Batch
from mcdrop.engine.outputs import Select, select_tensor
from mcdrop.engine.run import Strategy
from mcdrop.stochastic.live import LiveDropout, Pass, track_names
from mcdrop.stochastic.masks import MaskSource, Span
from mcdrop.stochastic.rules import RULES
from mcdrop.stochastic.sites import DropoutSite

__all__ = ["CANNOT_BATCH", "PassRunner", "Plan"]

# What vmap raises for code it cannot batch. The plain model has run on the same inputs before,
# so an error of the model's own does not end up here.
CANNOT_BATCH = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Plan:
    """What one look at the model on its first batch decided.

    Attributes:
        strategy: How passes will run.
        reason: Why, in one sentence.
        sites: The dropout calls of one pass.
        output: What the plain model returns for the batch.
    """

    strategy: Strategy
    reason: str
    sites: tuple[DropoutSite, ...]
    output: Tensor


class PassRunner:
    """Runs passes of one model.

    Args:
        function: Public function to name in errors.
        twin: A structural copy of the model, in eval mode, that nobody else uses.
        select: Which tensor of the output is the prediction.
        rates: Dropout rates that override the model's.

    Attributes:
        sites: The dropout calls of the latest pass.
    """

    def __init__(
        self, function: str, twin: nn.Module, select: Select, rates: Mapping[str, float]
    ) -> None:
        self._function = function
        self._twin = twin
        self._select = select
        self._rates = rates
        self.sites: tuple[DropoutSite, ...] = ()
        self._modules: list[tuple[str, nn.Module]] = []
        track_names(twin, self._modules)

    def plan(self, batch: Batch) -> Plan:
        """Decide the strategy: vectorised if, with every mask open, it reproduces the model."""
        plain = self._chosen(self._twin(*batch.args, **batch.kwargs))
        try:
            opened = self.vectorised(None, batch, Span(count=2))
        except CANNOT_BATCH as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"the model cannot be batched over passes: {lines[0]}"
        else:
            difference = _difference(opened, plain)
            if difference is None:
                reason = "with every mask open it reproduces model(x)"
                return Plan("vectorised", reason, self.sites, plain)
            reason = f"batched over passes, with every mask open, the output is off by {difference}"
        self.sequential(None, batch, Span())
        return Plan("sequential", reason, self.sites, plain)

    def vectorised(self, source: MaskSource | None, batch: Batch, span: Span) -> Tensor:
        """Run passes in one call; what comes before the first dropout is computed once.

        Args:
            source: Where masks come from; None keeps every unit.
            batch: The rows.
            span: The passes.

        Returns:
            Outputs, (span.count, n, ...).
        """

        def one(index: Tensor) -> Tensor:
            current = Pass(source, self._rates, span, index)
            return self._chosen(self._live(batch, current))

        index = torch.arange(span.count, device=batch.tensors()[0].device)
        outputs: Tensor = torch.func.vmap(one, randomness="error")(index)
        return outputs

    def sequential(self, source: MaskSource | None, batch: Batch, span: Span) -> Tensor:
        """Run passes one after the other; arguments and result as for `vectorised`."""
        numbers = range(span.first, span.first + span.count)
        spans = (Span(span.batch, number) for number in numbers)
        return torch.stack([self._chosen(self.one(source, batch, each)) for each in spans])

    def one(self, source: MaskSource | None, batch: Batch, span: Span) -> Any:
        """Run one pass and return the model's output as it is."""
        return self._live(batch, Pass(source, self._rates, span))

    def _live(self, batch: Batch, current: Pass) -> Any:
        """Run the model once under the mode."""
        self._modules.clear()
        current.modules = self._modules
        with LiveDropout(current, RULES):
            output = self._twin(*batch.args, **batch.kwargs)
        self.sites = tuple(current.sites)
        return output

    def _chosen(self, output: Any) -> Tensor:
        return select_tensor(self._function, output, self._select)


def _difference(opened: Tensor, plain: Tensor) -> str | None:
    """Describe how the opened passes differ from the plain output; None if they agree.

    Batched kernels round differently, and deep networks amplify it, hence the wide tolerance; a
    wrong broadcast is off by far more.
    """
    if opened.shape[1:] != plain.shape:
        return f"its shape, {tuple(opened.shape[1:])} for {tuple(plain.shape)}"
    scale = plain[plain.isfinite()].abs().amax().item() if bool(plain.isfinite().any()) else 0.0
    tolerance = torch.finfo(plain.dtype).eps ** 0.5 * (scale + 1e-30)
    if torch.allclose(opened, plain.expand_as(opened), rtol=0, atol=tolerance, equal_nan=True):
        return None
    return f"{(opened - plain).abs().nan_to_num().amax().item():.2g}"
