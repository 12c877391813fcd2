"""The last dropout in closed form (Rao-Blackwellization), where it feeds the output layer alone.

Given everything before it, ``y = W (z * h) / (1 - p) + b`` with independent z ~ Bernoulli(1 - p)
has mean ``W h + b`` and variance ``p / (1 - p) * W^2 h^2``, so that mask need not be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._trees import leaves

__all__ = ["ClosedFormError", "LastLayer"]


class ClosedFormError(RuntimeError):
    """The last dropout does not feed the output layer alone."""


@dataclass
class LastLayer:
    """Follows one pass from its last dropout to its output.

    Attributes:
        site: Number of the last dropout call.
        probing: Whether the output layer returns random numbers, to check that the model returns
            them unchanged.
        mean: Output of the output layer.
        variance: Its variance over the masks of the last dropout.
        problem: Why the closed form does not apply; empty if it does.
    """

    site: int
    probing: bool = False
    mean: Tensor | None = None
    variance: Tensor | None = None
    problem: str = ""
    _held: Tensor | None = None
    _rate: float = 0.0

    def hold(self, x: Tensor, rate: float, *, by_element: bool) -> Tensor:
        """Return the input of the last dropout unchanged, and watch which function takes it.

        Args:
            x: Input of the dropout.
            rate: Rate that masks would realize.
            by_element: Whether every element has a mask of its own.
        """
        if not by_element:
            self.problem = "it drops more than single units"
        self._held, self._rate = x.view_as(x), rate
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

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the output layer and compute its variance."""
        if self.mean is not None:
            self.problem = "its output goes to two linear layers"
        self.mean = F.linear(x, weight, bias)
        odds = self._rate / (1.0 - self._rate)
        self.variance = F.linear(x.square(), weight.square()) * odds
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

    def paired(self, output: Tensor) -> Tensor:
        """Return mean and variance of the model's output side by side, (..., 2).

        Where the model returns other numbers than the output layer's, the variance is NaN.

        Args:
            output: What the model returned: the output layer's result, perhaps reshaped.

        Raises:
            ClosedFormError: If the closed form does not apply.
        """
        if self.mean is None or self.variance is None:
            self.problem = self.problem or "its output does not reach a linear layer"
        elif output.numel() != self.mean.numel():
            self.problem = self.problem or "the output is not that of the linear layer after it"
        if self.problem or self.mean is None or self.variance is None:
            raise ClosedFormError(self.problem)
        unchanged = output == self.mean.reshape(output.shape)
        variance = self.variance.reshape(output.shape).where(unchanged, torch.nan)
        return torch.stack([output, variance], dim=-1)

    def came_through(self, output: Tensor) -> bool:
        """Tell, after probing, whether the model returned the output layer's result unchanged."""
        return (
            self.mean is not None
            and output.numel() == self.mean.numel()
            and torch.equal(output.flatten(), self.mean.flatten())
        )
