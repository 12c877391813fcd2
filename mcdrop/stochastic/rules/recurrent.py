"""Recurrent networks: one layer at a time, with dropout between the layers.

torch applies this dropout inside one fused call, and that call cannot be batched over passes; a
single layer can, by moving the passes into the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop.stochastic.live import Function, Pass, Rule, over_passes
from mcdrop.stochastic.rules.dropout import drop_elements

__all__ = ["plain_recurrent_rules", "recurrent_rules"]


def recurrent_rules() -> dict[Function, Rule]:
    """Return the rules by function."""
    functions = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
    exported = (
        torch.ops.aten.lstm.input,
        torch.ops.aten.gru.input,
        torch.ops.aten.rnn_tanh.input,
        torch.ops.aten.rnn_relu.input,
    )
    return dict.fromkeys((*functions, *exported), _recurrent)


def plain_recurrent_rules() -> dict[Function, Rule]:
    """Return the rules that switch dropout off in the same functions."""
    return dict.fromkeys(recurrent_rules(), _off)


def _off(current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call with `training` false: second last if packed, third last if not."""
    args = (*args, *kwargs.values())
    flag = len(args) - (2 if isinstance(args[3], tuple | list) else 3)
    return func(*args[:flag], False, *args[flag + 1 :])


@dataclass(frozen=True)
class _Call:
    """The arguments of one recurrent call; `batch_sizes` is given for packed sequences."""

    x: Tensor
    batch_sizes: Tensor | None
    states: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    has_biases: bool
    num_layers: int
    dropout: float
    bidirectional: bool
    batch_first: bool
    is_lstm: bool

    @classmethod
    def of(cls, args: tuple[Any, ...]) -> _Call:
        """Sort the positional arguments of torch.lstm and its like, packed or not."""
        packed = isinstance(args[3], tuple | list)
        if packed:
            x, batch_sizes, hx, weights, has_biases, layers, dropout, _, bidirectional = args
            batch_first = False
        else:
            x, hx, weights, has_biases, layers, dropout, _, bidirectional, batch_first = args
            batch_sizes = None
        is_lstm = isinstance(hx, tuple | list)
        states = tuple(hx) if is_lstm else (hx,)
        return cls(
            x, batch_sizes, states, tuple(weights), has_biases, layers, dropout,
            bidirectional, batch_first, is_lstm,
        )  # fmt: skip


def _recurrent(
    current: Pass, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, ...]:
    """Run layer by layer and drop between layers, never after the last, as torch does."""
    call = _Call.of((*args, *kwargs.values()))
    n_directions = 2 if call.bidirectional else 1
    per_layer = len(call.weights) // call.num_layers
    x, finals = call.x, []
    for layer in range(call.num_layers):
        rows = slice(layer * n_directions, (layer + 1) * n_directions)
        states = [state[rows] for state in call.states]
        weights = call.weights[layer * per_layer : (layer + 1) * per_layer]
        x, *last = _one_layer(current, func, call, x, states, weights)
        finals.append(last)
        if layer < call.num_layers - 1:
            x = drop_elements(current, x, call.dropout, "recurrent")
    return (x, *(torch.cat(parts) for parts in zip(*finals, strict=True)))


def _one_layer(
    current: Pass,
    func: Function,
    call: _Call,
    x: Tensor,
    states: list[Tensor],
    weights: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Run one layer, with passes folded into the batch where the input differs by pass."""
    batch_dim = 0 if call.batch_first else 1
    n_states = len(states)

    def run(batch_sizes: Tensor | None, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        values, hidden = tensors[0], tuple(tensors[1 : 1 + n_states])
        hx = hidden if call.is_lstm else hidden[0]
        layer = (list(tensors[1 + n_states :]), call.has_biases, 1, 0.0, False, call.bidirectional)
        if batch_sizes is not None:
            return tuple(func(values, batch_sizes, hx, *layer))
        return tuple(func(values, hx, *layer, call.batch_first))

    def over_all(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Run passes (s, ...) as s times as many rows: row b of pass i becomes row b * s + i."""
        if any(batched[1 + n_states :]):
            raise RuntimeError("the weights of a recurrent layer differ by pass")
        if not any(batched):
            return None
        n_passes = max(tensor.shape[0] for tensor in tensors[: 1 + n_states])
        values, *hidden = (
            tensor.expand(n_passes, *tensor.shape[1:]) for tensor in tensors[: 1 + n_states]
        )
        # Packed data hold (time, row) pairs in one dimension, with rows innermost.
        rows = 0 if call.batch_sizes is not None else batch_dim
        sizes = None if call.batch_sizes is None else call.batch_sizes * n_passes
        folded = [_fold(values, rows), *(_fold(state, 1) for state in hidden)]
        out, *last = run(sizes, [*folded, *(weight[0] for weight in tensors[1 + n_states :])])
        return (_unfold(out, rows, n_passes), *(_unfold(state, 1, n_passes) for state in last))

    tensors = (x, *states, *weights)
    return over_passes(current, over_all, lambda each: run(call.batch_sizes, each), tensors)


def _fold(x: Tensor, dim: int) -> Tensor:
    """Move the leading passes of (s, ...) into dimension `dim`, innermost."""
    return x.movedim(0, dim + 1).flatten(dim, dim + 1)


def _unfold(x: Tensor, dim: int, n_passes: int) -> Tensor:
    """Undo `_fold`."""
    return x.unflatten(dim, (x.shape[dim] // n_passes, n_passes)).movedim(dim + 1, 0)
