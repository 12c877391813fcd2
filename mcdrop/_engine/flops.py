"""Counts the floating point operations of a pass as they happen, in this thread alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from mcdrop._live.functorch import aten, flop_formulas
from mcdrop._live.operators import OperatorMode

__all__ = ["FlopCounter"]


class FlopCounter(OperatorMode):
    """Adds up the operations of matrix products, convolutions, attention and recurrent layers.

    torch's own counter hooks every module of the process to name them, which other threads would
    notice; this one uses its formulas without the hooks.

    Attributes:
        total: Operations so far, a multiplication and an addition counting as two.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._formulas = flop_formulas()
        self._recurrent = aten("mkldnn_rnn_layer")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count it."""
        out = func(*args, **(kwargs or {}))
        packet = getattr(func, "overloadpacket", None)
        if packet in self._formulas:
            # Not every formula knows every shape; a share of work is worth no failure.
            with suppress(AssertionError, IndexError, TypeError, ValueError):
                self.total += int(self._formulas[packet](*args, **(kwargs or {}), out_val=out))
        elif func in self._recurrent:
            x, from_input, from_state = args[:3]
            self.total += 2 * (x.numel() // x.shape[-1]) * (from_input.numel() + from_state.numel())
        return out
