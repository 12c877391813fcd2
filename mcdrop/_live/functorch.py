"""Computing something for all passes at once, below the vmap that batches them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["below_vmap", "over_index"]

Together = Callable[[Sequence[bool], Sequence[Tensor]], tuple[Tensor, ...] | None]
Alone = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]

_functorch: Any = torch._C._functorch
# torch's public way costs what small networks feel, per call. It is itself made of these.
_DIRECT = all(
    hasattr(_functorch, name)
    for name in (
        "_add_batch_dim",
        "_remove_batch_dim",
        "_vmap_decrement_nesting",
        "_vmap_increment_nesting",
        "get_unwrapped",
        "is_batchedtensor",
        "maybe_get_bdim",
        "maybe_get_level",
        "pop_dynamic_layer_stack",
        "push_dynamic_layer_stack",
    )
)


def over_index(function: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
    """Call a function once for all entries of an index, like ``torch.func.vmap``.

    It has to have run under ``torch.func.vmap`` before, which loads what some operations need.
    That leaves reference cycles behind with each call; this leaves none.

    Args:
        function: Takes the index and returns a tensor.
        index: Integers, (s,).

    Returns:
        What the function returns, (s, ...).
    """
    if not _DIRECT:
        return torch.func.vmap(function, randomness="error")(index)
    level = _functorch._vmap_increment_nesting(len(index), "error")
    try:
        result = function(_functorch._add_batch_dim(index, 0, level))
        passes: Tensor = _functorch._remove_batch_dim(result, level, len(index), 0)
    finally:
        _functorch._vmap_decrement_nesting()
    return passes


def below_vmap(
    index: Tensor, together: Together, alone: Alone, tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Compute something for all passes.

    Args:
        index: The tensor that vmap batches, of the innermost vmap.
        together: ``together(batched, tensors)``: the tensors with passes first, (s, ...) where
            they differ by pass and (1, ...) where they do not; returns results (s, ...), or None
            if they do not differ by pass.
        alone: The same for tensors that do not differ by pass.
        tensors: The inputs as the model sees them.

    Returns:
        Results as the model sees them.
    """
    if not _DIRECT:
        results: tuple[Tensor, ...] = _BelowVmap.apply(  # type: ignore[no-untyped-call]
            index, together, alone, *tensors
        )
        return results
    level = _functorch.maybe_get_level(index)
    dims = [_batch_dim(x, level) for x in tensors]
    inner = [
        x if dim is None else _functorch.get_unwrapped(x)
        for x, dim in zip(tensors, dims, strict=True)
    ]
    outer = _functorch.pop_dynamic_layer_stack()
    try:
        found, differ = _computed(together, alone, inner, dims)
    finally:
        _functorch.push_dynamic_layer_stack(outer)
    if not differ:
        return found
    return tuple(_functorch._add_batch_dim(result, 0, level) for result in found)


def _batch_dim(x: Tensor, level: int) -> int | None:
    """Return the dimension of passes, or None for a tensor that does not differ by pass."""
    if not _functorch.is_batchedtensor(x) or _functorch.maybe_get_level(x) != level:
        return None
    return int(_functorch.maybe_get_bdim(x))


def _computed(
    together: Together, alone: Alone, tensors: Sequence[Tensor], dims: Sequence[int | None]
) -> tuple[tuple[Tensor, ...], bool]:
    """Return results, and whether they differ by pass."""
    aligned = [
        x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(tensors, dims, strict=True)
    ]
    results = together([dim is not None for dim in dims], aligned)
    return (alone(tensors), False) if results is None else (results, True)


class _BelowVmap(torch.autograd.Function):
    """The public way to see the tensors of all passes under vmap: a Function's own vmap rule.

    Only that rule ever runs, because the index is always batched.
    """

    @staticmethod
    def forward(index: Tensor, together: Any, alone: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return alone(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: vectorized passes run without gradients."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        index: Tensor,
        together: Any,
        alone: Any,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        results, differ = _computed(together, alone, tensors, in_dims[3:])
        return results, (0 if differ else None,) * len(results)
