"""Forward calls for rules, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import live_rules
from mcdrop._masks.source import MaskSource, Span


class Function(nn.Module):
    """Applies a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class AfterDropout(Function):
    """Applies a function to an input that differs by pass."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(function)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(self.drop(x))
        return out


def call_of(
    *, opened: bool, rules: Mapping[TorchFunction, Rule] | None = None, number: int = 0
) -> Call:
    """Make the call of one pass."""
    source = MaskSource(0, torch.device("cpu"))
    return Call(live_rules() if rules is None else rules, source, opened, Span(0, number))


def opened(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function with the live rules and every unit kept."""
    with LiveDropout(call_of(opened=True)):
        return function(*args)
