"""What a dropout site is: one place in a forward pass where units are dropped."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DropoutSite"]


@dataclass(frozen=True)
class DropoutSite:
    """One dropout call seen during a forward pass.

    Attributes:
        name: Module path as in ``model.named_modules()`` ("(root)" for the model itself). A call
            made in the code of a module, rather than by a dropout module, carries the function's
            name after a colon ("encoder:dropout"). Repeated calls get "#2", "#3", ...
        kind: The operation, such as "dropout" or "dropout2d".
        p: Rate in force, after any override; probability that a unit is dropped.
        order: Position among the dropout calls of the pass, from 0.
        shape: Shape of the tensor that is dropped out, as one pass sees it.
        fired: Whether units were dropped at random, that is 0 < p < 1.
        flops_before: Share of the pass's floating point operations that come before this call;
            None where they were not counted. For the first site that fires, it is the share that
            vectorized passes compute only once.
    """

    name: str
    kind: str
    p: float
    order: int
    shape: tuple[int, ...]
    fired: bool
    flops_before: float | None = None
