"""The last dropout by itself (Rao-Blackwellization), where it feeds the output layer alone.

Given everything before it, ``y = W (z * h) / (1 - p) + b`` with independent z ~ Bernoulli(1 - p)
has mean ``W h + b`` and variance ``p / (1 - p) * W^2 h^2``, so that mask need not be drawn. What is
not linear in y, such as class probabilities, has no closed form; but z can be drawn several times
for one h, at the cost of the output layer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._masks.mask import DropoutMask
from mcdrop._masks.stratified import STRATUM
from mcdrop._trees import leaves

__all__ = ["ClosedFormError", "LastLayer"]

# Elements of the redrawn units that are held at a time: they stay in the cache.
_TILE = 2**18

OverPasses = Callable[[Any, Any, Sequence[Tensor]], tuple[Tensor, ...]]
"""See `Call.over_passes`."""


class ClosedFormError(RuntimeError):
    """The last dropout does not feed the output layer alone."""


@dataclass
class LastLayer:
    """Follows one pass from its last dropout to its output.

    Attributes:
        site: Number of the last dropout call.
        redraws: How many masks to draw for every pass; 0 for the closed form.
        probing: Whether the output layer returns random numbers, to check that the model returns
            them unchanged.
        mean: Output of the output layer.
        beside: Its variance over the masks of the last dropout, or its values for each of the
            redrawn ones, (redraws, ...).
        problem: Why the closed form does not apply; empty if it does.
    """

    site: int
    redraws: int = 0
    probing: bool = False
    mean: Tensor | None = None
    beside: Tensor | None = None
    problem: str = ""
    _held: Tensor | None = None
    _rate: float = 0.0
    _mask: DropoutMask | None = None

    def hold(self, x: Tensor, rate: float, mask: DropoutMask | None, *, by_element: bool) -> Tensor:
        """Return the input of the last dropout unchanged, and watch which function takes it.

        Args:
            x: Input of the dropout.
            rate: Rate that masks would realize.
            mask: The mask that a pass would be given, if masks are redrawn.
            by_element: Whether every element has a mask of its own.
        """
        if not by_element:
            self.problem = "it drops more than single units"
        self._held, self._rate, self._mask = x.view_as(x), rate, mask
        return self._held

    def watch(self, func: Any, args: Any, kwargs: Any) -> None:
        """Note if a function other than a linear layer takes the dropped-out tensor."""
        if self._held is None or getattr(func, "__name__", "") == "__get__":
            return
        uses = sum(leaf is self._held for leaf in leaves((args, kwargs)))
        if uses and not (uses == 1 and func is F.linear and args[:1] and args[0] is self._held):
            name = getattr(func, "__name__", str(func))
            self.problem = self.problem or f"its output goes to {name}, not to a linear layer"

    def takes(self, x: Tensor) -> bool:
        """Tell whether a linear layer is given the dropped-out tensor."""
        return self._held is not None and x is self._held

    def linear(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, over_passes: OverPasses
    ) -> Tensor:
        """Run the output layer, and compute its variance or its values for redrawn masks."""
        if self.mean is not None:
            self.problem = "its output goes to two linear layers"
        self.mean = F.linear(x, weight, bias)
        if self.redraws:
            self.beside = self._redrawn(x, weight, bias, over_passes)
        else:
            odds = self._rate / (1.0 - self._rate)
            self.beside = F.linear(x.square(), weight.square()) * odds
        if self.probing:
            generator = torch.Generator(x.device).manual_seed(0)
            numbers = torch.randn(self.mean.shape, generator=generator, device=x.device)
            # Six orders of magnitude, so that any nonlinearity changes some of them.
            powers = torch.randint(
                -3, 4, numbers.shape, generator=generator, device=x.device, dtype=numbers.dtype
            )
            sizes = 10.0**powers
            self.mean = (numbers * sizes).to(self.mean.dtype)
        # A copy goes on, so that in-place functions after the layer are noticed.
        return self.mean.clone()

    def _redrawn(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, over_passes: OverPasses
    ) -> Tensor:
        """Return the output layer's values for several masks of every pass, (redraws, ...)."""
        mask, n_redraws, scale = self._mask, self.redraws, 1.0 / (1.0 - self._rate)
        if mask is None:
            raise RuntimeError("LastLayer: no dropout has been called")
        span = mask.span

        def dropped(x: Tensor, first: int) -> Tensor:
            part = replace(span, first=first, count=len(x))
            return replace(mask, span=part, stacked=True, buffer="part").times(x, scale)

        def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            if any(batched[1:]):
                self.problem = "its output goes to a layer with random weights"
                return (tensors[0],)
            (weights, *biases) = (each[0] for each in tensors[1:])
            values = tensors[0].expand(span.count, *tensors[0].shape[1:])
            most = max(1, _TILE // max(1, n_redraws * math.prod(values.shape[1:])))
            found = []
            for passes in _tiles(span.first, span.count, most):
                x = values[passes.start - span.first : passes.stop - span.first]
                if n_redraws == STRATUM:
                    kept = dropped(x.repeat_interleave(STRATUM, dim=0), STRATUM * passes.start)
                    found.append(F.linear(kept, weights, *biases).unflatten(0, (-1, STRATUM)))
                    continue
                each = [
                    F.linear(dropped(x, _number(passes.start, draw, n_redraws)), weights, *biases)
                    for draw in range(n_redraws)
                ]
                found.append(torch.stack(each, dim=1))
            return (torch.cat(found),)

        def alone(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            whole = [each.unsqueeze(0) for each in tensors]
            return (together([False] * len(whole), whole)[0][0],)

        layer = [x, weight] if bias is None else [x, weight, bias]
        return over_passes(together, alone, layer)[0]

    def paired(self, output: Tensor) -> Tensor:
        """Return the model's output and, behind it, its variance or its redrawn values.

        Shape (..., 2) or (..., 1 + redraws). Where the model returns other numbers than the output
        layer's, all but the first are NaN.

        Args:
            output: What the model returned: the output layer's result, perhaps reshaped.

        Raises:
            ClosedFormError: If the closed form does not apply.
        """
        if self.mean is None or self.beside is None:
            self.problem = self.problem or "its output does not reach a linear layer"
        elif output.numel() != self.mean.numel():
            self.problem = self.problem or "the output is not that of the linear layer after it"
        if self.problem or self.mean is None or self.beside is None:
            raise ClosedFormError(self.problem)
        unchanged = output == self.mean.reshape(output.shape)
        beside = self.beside.reshape(-1, *output.shape).where(unchanged, torch.nan)
        return torch.cat([output.unsqueeze(0), beside]).movedim(0, -1)

    def came_through(self, output: Tensor) -> bool:
        """Tell, after probing, whether the model returned the output layer's result unchanged."""
        return (
            self.mean is not None
            and output.numel() == self.mean.numel()
            and torch.equal(output.flatten(), self.mean.flatten())
        )


def _tiles(first: int, count: int, most: int) -> Iterator[range]:
    """Yield the numbers of some passes, at most so many at a time and of one stratum each."""
    end = first + count
    while first < end:
        stop = min(end, first + most, (first // STRATUM + 1) * STRATUM)
        yield range(first, stop)
        first = stop


def _number(number: int, draw: int, n_redraws: int) -> int:
    """Return the number of the mask that a pass is given at one of fewer redraws than a stratum.

    Every redraw has strata of its own, in which the passes keep their places: passes are then as
    balanced, and as independent, as with a single mask. Where a pass has a whole stratum of masks,
    these are balanced within the pass instead.

    Args:
        number: Number of the pass.
        draw: Number of the redraw.
        n_redraws: Redraws of every pass.
    """
    stratum, place = divmod(number, STRATUM)
    return (stratum * n_redraws + draw) * STRATUM + place
