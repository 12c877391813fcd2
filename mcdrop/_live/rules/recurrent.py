"""Recurrent networks: one layer at a time, with dropout between the layers.

torch applies this dropout inside one fused call, which vmap cannot batch. A single layer can be
batched by folding passes into the batch dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop._live.call import Call, Rule, TorchFunction
from mcdrop._live.functorch import aten
from mcdrop._live.rules.dropout import drop_elements

__all__ = ["plain_recurrent_rules", "rate_between_layers", "recurrent_rules"]


def recurrent_rules() -> dict[TorchFunction, Rule]:
    """Return the rules by function."""
    functions = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
    exported = (aten(function.__name__, "input") for function in functions)
    return {
        **dict.fromkeys(chain(functions, *exported), _recurrent),
        **dict.fromkeys((torch.lstm_cell, *aten("lstm_cell")), _lstm_cell),
    }


def plain_recurrent_rules() -> dict[TorchFunction, Rule]:
    """Return the rules that switch dropout off in the same functions."""
    return {func: _off for func, rule in recurrent_rules().items() if rule is _recurrent}


def _off(call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call with `training` false: second last if packed, third last if not."""
    args = (*args, *kwargs.values())
    flag = len(args) - (2 if isinstance(args[3], tuple | list) else 3)
    return func(*args[:flag], False, *args[flag + 1 :])


def rate_between_layers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Return the rate of the dropout between layers; 0 for a single layer."""
    rnn = _Recurrent.of((*args, *kwargs.values()))
    return rnn.dropout if rnn.num_layers > 1 else 0.0


@dataclass(frozen=True)
class _Recurrent:
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
    def of(cls, args: tuple[Any, ...]) -> _Recurrent:
        """Name the positional arguments of torch.lstm and its like, packed or not."""
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
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, ...]:
    """Run layer by layer and drop between layers, never after the last, as torch does."""
    rnn = _Recurrent.of((*args, *kwargs.values()))
    n_directions = 2 if rnn.bidirectional else 1
    per_layer = len(rnn.weights) // rnn.num_layers
    x, finals = rnn.x, []
    for layer in range(rnn.num_layers):
        rows = slice(layer * n_directions, (layer + 1) * n_directions)
        states = [state[rows] for state in rnn.states]
        weights = rnn.weights[layer * per_layer : (layer + 1) * per_layer]
        x, *last = _one_layer(call, func, rnn, x, states, weights)
        finals.append(last)
        if layer < rnn.num_layers - 1:
            x = drop_elements(call, x, rnn.dropout, "recurrent")
    return (x, *(torch.cat(parts) for parts in zip(*finals, strict=True)))


def _one_layer(
    call: Call,
    func: TorchFunction,
    rnn: _Recurrent,
    x: Tensor,
    states: list[Tensor],
    weights: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Run one layer, with passes folded into the batch where the input is batched over them."""
    time_dim = 1 if rnn.batch_first else 0
    n_states = len(states)

    def run(
        batch_sizes: Tensor | None, tensors: Sequence[Tensor], *, batch_first: bool
    ) -> tuple[Tensor, ...]:
        values, hidden = tensors[0], tuple(tensors[1 : 1 + n_states])
        hx = hidden if rnn.is_lstm else hidden[0]
        layer = (list(tensors[1 + n_states :]), rnn.has_biases, 1, 0.0, False, rnn.bidirectional)
        if batch_sizes is not None:
            return tuple(func(values, batch_sizes, hx, *layer))
        return tuple(func(values, hx, *layer, batch_first))

    def over_all(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Run passes (s, ...) as s times as many rows."""
        if any(batched[1 + n_states :]):
            raise RuntimeError("the weights of a recurrent layer are batched over passes")
        if not any(batched):
            return None
        n_passes = max(tensor.shape[0] for tensor in tensors[: 1 + n_states])
        values, *hidden = (
            tensor.expand(n_passes, *tensor.shape[1:]) for tensor in tensors[: 1 + n_states]
        )
        layer = [weight[0] for weight in tensors[1 + n_states :]]
        if rnn.batch_sizes is None:
            # Time first, as the kernels want it, which saves them a copy.
            folded = [_fold(values, time_dim + 1), *(_fold(state, 1) for state in hidden)]
            out, *last = run(None, [*folded, *layer], batch_first=False)
            return (_unfold(out, time_dim + 1, n_passes), *(_unfold(h, 1, n_passes) for h in last))
        # Packed data hold (time, row) pairs in one dimension, with rows innermost: row b of pass i
        # becomes row b * s + i.
        inner = [_fold_inside(values, 0), *(_fold_inside(state, 1) for state in hidden)]
        out, *last = run(rnn.batch_sizes * n_passes, [*inner, *layer], batch_first=False)
        return (
            _unfold_inside(out, 0, n_passes),
            *(_unfold_inside(state, 1, n_passes) for state in last),
        )

    def alone(each: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return run(rnn.batch_sizes, each, batch_first=rnn.batch_first)

    tensors = (x, *states, *weights)
    return call.over_passes(over_all, alone, tensors)


def _lstm_cell(
    call: Call, func: TorchFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, ...]:
    """Run one step of an LSTM, which vmap cannot batch, with passes folded into the rows."""
    x, states, *weights = (*args, *kwargs.values())
    values = (x, *states)
    if any(call.is_batched(weight) for weight in weights if weight is not None):
        return _lstm_step(values, weights)

    def together(_: Sequence[bool], each: Sequence[Tensor]) -> tuple[Tensor, ...]:
        n_passes = max(value.shape[0] for value in each)
        rows = [value.expand(n_passes, *value.shape[1:]).flatten(0, 1) for value in each]
        return tuple(out.unflatten(0, (n_passes, -1)) for out in alone(rows))

    def alone(each: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(func(each[0], list(each[1:]), *weights))

    return call.over_passes(together, alone, values)


def _lstm_step(values: Sequence[Tensor], weights: Sequence[Any]) -> tuple[Tensor, ...]:
    """Compute a step of an LSTM whose weights differ by pass, (hidden, cell)."""
    (x, hidden, cell), (of_x, of_hidden, *biases) = values, weights
    gates = F.linear(x, of_x, *biases[:1]) + F.linear(hidden, of_hidden, *biases[1:])
    keep_in, keep_cell, new, out = gates.chunk(4, dim=-1)
    cell = keep_cell.sigmoid() * cell + keep_in.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _fold(x: Tensor, first: int) -> Tensor:
    """Move dimension `first` of (s, ...) to the front and merge passes with rows after it."""
    return x.movedim(first, 0).flatten(1, 2)


def _unfold(x: Tensor, first: int, n_passes: int) -> Tensor:
    """Undo `_fold`."""
    return x.unflatten(1, (n_passes, x.shape[1] // n_passes)).movedim(0, first)


def _fold_inside(x: Tensor, dim: int) -> Tensor:
    """Move the leading passes of (s, ...) into dimension `dim`, innermost."""
    return x.movedim(0, dim + 1).flatten(dim, dim + 1)


def _unfold_inside(x: Tensor, dim: int, n_passes: int) -> Tensor:
    """Undo `_fold_inside`."""
    return x.unflatten(dim, (x.shape[dim] // n_passes, n_passes)).movedim(dim + 1, 0)
