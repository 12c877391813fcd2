"""Operators counted as they reach the kernels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mcdrop._live.operators import OperatorMode


class Kernels(OperatorMode):
    """Counts operators by name, without their overloads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def n_costly(self) -> int:
        """Matrix products and convolutions among them."""
        return sum(self.calls[name] for name in ("mm", "addmm", "convolution"))
