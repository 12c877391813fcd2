"""The door to torch's private names; each is looked for once, and each has a way out.

| private names | used for | without them |
|---|---|---|
| vmap levels of functorch | passes of a chunk, per call faster | the vmap rule of a Function |
| owners of a storage | in-place writes of batched values | passes one by one |
| `Tensor._version` below vmap | placeholders notice writes | nothing is deferred |
| code of multi-head attention | its body with the mode on | the body written out |
| overloads of `torch.ops.aten` | exported programs | no rule for that operator |
| packing of sequences | recurrent passes at once | passes one by one |
| dispatch mode, FLOP formulas | work before a site | no FLOP shares |
| dispatch mode, schemas, pytree | a training run is watched | gates are read off the source |

`missing_names` lists what the installed torch lacks. Those of the compiler are in `compiler`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "COMPILED_CALL",
    "DispatchMode",
    "aten",
    "below_vmap",
    "flattened",
    "flop_formulas",
    "has_hooks",
    "has_operator_modes",
    "is_batched",
    "is_below_other_vmap",
    "is_differentiated",
    "is_operator",
    "is_transformed",
    "missing_names",
    "multi_head_body",
    "over_index",
    "overloads",
    "owns_memory_alone",
    "packing_functions",
    "sees_writes",
    "shares_memory",
    "undifferentiated",
    "writes",
]

Together = Callable[[Sequence[bool], Sequence[Tensor]], tuple[Tensor, ...] | None]
Alone = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]

_functorch: Any = getattr(torch._C, "_functorch", None)
_LEVEL_NAMES = (
    "_add_batch_dim",
    "_remove_batch_dim",
    "_vmap_decrement_nesting",
    "_vmap_increment_nesting",
    "get_unwrapped",
    "is_batchedtensor",
    "is_functorch_wrapped_tensor",
    "is_gradtrackingtensor",
    "maybe_get_bdim",
    "maybe_current_level",
    "maybe_get_level",
    "peek_interpreter_stack",
    "pop_dynamic_layer_stack",
    "push_dynamic_layer_stack",
)
# torch's public way costs what small networks feel, per call. It is itself made of these.
_DIRECT = all(hasattr(_functorch, name) for name in _LEVEL_NAMES)


COMPILED_CALL = "_compiled_call_impl"
"""Attribute in which `Module.compile` stores a compiled call of the original."""

try:
    from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode
except ImportError:

    class DispatchMode(nullcontext[None]):  # type: ignore[no-redef]
        """Sees nothing, so that nothing is counted."""


_pytree: Any = getattr(torch.utils, "_pytree", None)


def missing_names() -> tuple[str, ...]:
    """Return the private names that the installed torch lacks; empty if all are there."""
    found = {f"torch._C._functorch.{name}": hasattr(_functorch, name) for name in _LEVEL_NAMES}
    found["torch.utils._python_dispatch.TorchDispatchMode"] = not issubclass(
        DispatchMode, nullcontext
    )
    found["torch.utils._pytree"] = _pytree is not None
    found["torch.utils.flop_counter.flop_registry"] = bool(flop_formulas())
    found["torch._C._storage_Use_Count"] = _OWNERS_OF_A_NEW_TENSOR is not None
    found["F.multi_head_attention_forward.__code__"] = multi_head_body() is not None
    for name in ("_pack_padded_sequence", "_pad_packed_sequence"):
        found[f"torch.{name}"] = hasattr(torch, name)
    for name in ("dropout", "batch_norm", "scaled_dot_product_attention", "mkldnn_rnn_layer"):
        found[f"torch.ops.aten.{name}"] = bool(aten(name))
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        found[f"torch.ops.aten.{name}.input"] = bool(aten(name, "input"))
    return tuple(name for name, is_there in found.items() if not is_there)


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
    outside = _functorch.maybe_current_level()
    try:
        level = _functorch._vmap_increment_nesting(len(index), "error")
        result = function(_functorch._add_batch_dim(index, 0, level))
        passes: Tensor = _functorch._remove_batch_dim(result, level, len(index), 0)
    finally:
        # By level, not by count: an interrupt may come before `level` is bound.
        while _functorch.maybe_current_level() != outside:
            _functorch._vmap_decrement_nesting()
    return passes


def below_vmap(
    index: Tensor, together: Together, alone: Alone, tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Compute something for all passes of a chunk, below the vmap that batches them.

    Args:
        index: The tensor that vmap batches, of the innermost vmap.
        together: ``together(batched, tensors)``: the tensors with passes first, (s, ...) where
            they are batched over passes and (1, ...) where not; returns results (s, ...), or None
            if they are the same for all passes.
        alone: The same for tensors that are not batched.
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


def is_batched(x: Tensor, index: Tensor) -> bool:
    """Tell whether a tensor is batched over the passes of a chunk.

    Args:
        x: Any tensor, as the model sees it.
        index: The tensor that vmap batches.
    """
    if _DIRECT:
        return bool(_functorch.is_batchedtensor(x))
    found: list[bool] = []

    def note(batched: Sequence[bool], _: Sequence[Tensor]) -> None:
        found.append(batched[0])

    below_vmap(index, note, lambda tensors: (torch.zeros((), device="cpu"),), (x,))
    return found[0]


def is_below_other_vmap(x: Tensor, index: Tensor | None) -> bool:
    """Tell whether a tensor is batched by a vmap of the model's own.

    Args:
        x: Any tensor, as the model sees it.
        index: The tensor that vmap batches over passes, or None in a single pass.
    """
    if not _DIRECT:
        # The rule of `_BelowVmap` refuses it: there the index is not batched.
        return False
    while is_differentiated(x):
        x = _functorch.get_unwrapped(x)
    level = _functorch.maybe_get_level(x)
    if level is None or level < 0:
        return False
    return bool(index is None or level != _functorch.maybe_get_level(index))


def is_transformed(x: Tensor) -> bool:
    """Tell whether a transform of `torch.func` follows or batches a tensor."""
    return _DIRECT and bool(_functorch.is_functorch_wrapped_tensor(x))


def is_differentiated(x: Tensor) -> bool:
    """Tell whether `torch.func.grad`, `jvp` or their like follow a tensor."""
    return _DIRECT and bool(_functorch.is_gradtrackingtensor(x))


@contextmanager
def undifferentiated() -> Iterator[None]:
    """Make tensors that no transform of `torch.func` follows, while none is followed here."""
    layers = []
    try:
        while _functorch.peek_interpreter_stack() is not None:
            layers.append(_functorch.pop_dynamic_layer_stack())
        yield
    finally:
        for layer in reversed(layers):
            _functorch.push_dynamic_layer_stack(layer)


def shares_memory(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are views of the same memory, batched or not."""
    if _DIRECT:
        a, b = _innermost(a), _innermost(b)
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0
    except (RuntimeError, NotImplementedError):
        # A batched tensor without private names, or one without memory such as a sparse one.
        return False


def owns_memory_alone(x: Tensor) -> bool:
    """Tell whether no view, detached copy or array shares the memory of a tensor."""
    count = _owners(x)
    return count is not None and count == _OWNERS_OF_A_NEW_TENSOR


def _owners(x: Tensor) -> int | None:
    """Count what holds the memory of a tensor; None where torch does not tell."""
    ask = getattr(torch._C, "_storage_Use_Count", None)
    try:
        return None if ask is None else int(ask(x.untyped_storage()._cdata))
    except (AttributeError, NotImplementedError, RuntimeError):
        return None


_OWNERS_OF_A_NEW_TENSOR = _owners(torch.zeros(1))


def sees_writes() -> bool:
    """Tell whether `writes` can be relied on."""
    return _DIRECT and hasattr(Tensor, "_version")


def writes(x: Tensor) -> int:
    """Return how often a tensor has been written to, also below vmap."""
    return _innermost(x)._version


def _innermost(x: Tensor) -> Tensor:
    """Return the tensor below all levels of vmap."""
    while _functorch.is_functorch_wrapped_tensor(x):
        x = _functorch.get_unwrapped(x)
    return x


def aten(name: str, overload: str = "default") -> tuple[Callable[..., Any], ...]:
    """Return what exported programs and low-level code call: an overload and its packet.

    Args:
        name: As in ``torch.ops.aten``.
        overload: Which of its signatures.

    Returns:
        Both; empty if this torch has no such operator.
    """
    packet = getattr(torch.ops.aten, name, None)
    operator = getattr(packet, overload, None)
    return () if packet is None or operator is None else (operator, packet)


def is_operator(target: object) -> bool:
    """Tell whether something is an operator of ``torch.ops``, with or without its overload."""
    return isinstance(target, type(torch.ops.aten.relu) | type(torch.ops.aten.relu.default))


def overloads(operator: Any) -> list[Callable[..., Any]]:
    """Return all under which a call of an operator may be seen: its packet and its overloads."""
    packet = getattr(operator, "overloadpacket", operator)
    return [packet, *(getattr(packet, name) for name in packet.overloads())]


def packing_functions() -> tuple[Callable[..., Any], ...]:
    """Return what packs and pads sequences."""
    names = ("_pack_padded_sequence", "_pad_packed_sequence")
    return tuple(getattr(torch, name) for name in names if hasattr(torch, name))


def has_operator_modes() -> bool:
    """Tell whether operators can be seen as they run."""
    return not issubclass(DispatchMode, nullcontext) and _pytree is not None


def flattened(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any], Any]:
    """Return leaves of nested containers, what puts others in their places, and the structure."""
    values, structure = _pytree.tree_flatten(tree)
    return values, lambda others: _pytree.tree_unflatten(list(others), structure), structure


def multi_head_body() -> Callable[..., Any] | None:
    """Return the code of multi-head attention that does not ask whether a mode handles the call.

    A mode is switched off while it handles a call. With the mode entered once more the body would
    be handed back to its rule without end, unless it never asks.
    """
    function: Any = F.multi_head_attention_forward
    code = getattr(function, "__code__", None)
    if code is None or not {"has_torch_function"} <= set(code.co_names):
        return None
    namespace = {**function.__globals__, "has_torch_function": lambda *_: False}
    return types.FunctionType(
        code, namespace, function.__name__, function.__defaults__, function.__closure__
    )


def flop_formulas() -> dict[Any, Callable[..., Any]]:
    """Return torch's formulas for floating point operations, by operator."""
    try:
        from torch.utils.flop_counter import flop_registry
    except ImportError:
        return {}
    return flop_registry


def has_hooks(model: nn.Module) -> bool:
    """Tell whether hooks are registered on a module or one below it, before or after its call."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    return any(getattr(module, name, None) for module in model.modules() for name in names)


def _batch_dim(x: Tensor, level: int) -> int | None:
    """Return the dimension of passes, or None for a tensor that is not batched."""
    if not _functorch.is_batchedtensor(x) or _functorch.maybe_get_level(x) != level:
        return None
    return int(_functorch.maybe_get_bdim(x))


def _computed(
    together: Together, alone: Alone, tensors: Sequence[Tensor], dims: Sequence[int | None]
) -> tuple[tuple[Tensor, ...], bool]:
    """Return results, and whether they are batched."""
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
        """Keep nothing: passes of a chunk run without gradients."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        index: Tensor,
        together: Any,
        alone: Any,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        if in_dims[0] is None:
            raise RuntimeError("dropout below a vmap of the model's own")
        results, differ = _computed(together, alone, tensors, in_dims[3:])
        return results, (0 if differ else None,) * len(results)
