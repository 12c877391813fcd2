"""In-place writes of batched values into a tensor that is not batched over passes yet.

vmap refuses them, since the tensor has room for one pass only. The tensor is given room for all
passes first: its Python object stays the same, so everything that holds it sees the write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import owns_memory_alone
from mcdrop._live.memory import address
from mcdrop._trees import tensors

__all__ = ["in_place_rules", "make_room"]

_NAMES = (
    "__iadd__", "__imul__", "__isub__", "__itruediv__", "__setitem__",
    "add_", "addcdiv_", "addcmul_", "clamp_", "copy_", "div_", "index_add_", "index_copy_",
    "index_put_", "lerp_", "masked_fill_", "masked_scatter_", "mul_", "scatter_", "scatter_add_",
    "scatter_reduce_", "sub_", "where_",
)  # fmt: skip


def in_place_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    found = (getattr(Tensor, name, None) for name in _NAMES)
    return dict.fromkeys((function for function in found if function is not None), _written)


def _written(call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the target batched if what is written to it is."""
    target, *rest = args
    if call.index is not None and any(call.is_batched(x) for x in tensors((rest, kwargs))):
        make_room(call, target)
    return func(*args, **kwargs)


def make_room(call: Call, target: Tensor) -> bool:
    """Put a batched copy in the place of a tensor, if nothing else would miss the write.

    Args:
        call: A forward call of several passes.
        target: What is about to be written to.

    Returns:
        Whether the tensor is batched now. A parameter is never replaced, nor what a view or an
        array shares memory with.
    """
    if call.is_batched(target):
        return True
    if not owns_memory_alone(target) or address(target) in call.protected:
        return False

    def together(_: Sequence[bool], values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = values[0]
        return (x.expand(call.span.count, *x.shape[1:]).clone(),)

    (batched,) = call.over_passes(together, lambda values: (values[0],), (target,))
    torch.utils.swap_tensors(target, batched)
    return True
