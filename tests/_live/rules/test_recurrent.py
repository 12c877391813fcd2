"""Recurrent networks, one layer at a time: torch's own numbers, and dropout between layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import mcdrop
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import PLAIN
from tests._live.rules.calls import Function, call_of, opened
from tests.passes import draw

pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)
X = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, Any] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "tanh": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="tanh", **options),
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "all of it": {"bidirectional": True, "batch_first": True, "bias": False, "num_layers": 3},
    "projected": {"proj_size": 2, "bidirectional": True},
}


def network(kind: str, **options: Any) -> nn.RNNBase:
    torch.manual_seed(1)
    made: nn.RNNBase = KINDS[kind](4, 6, **{"num_layers": 2, "dropout": 0.5, **options}).eval()
    return made


def parts(result: Any) -> list[Tensor]:
    """List the tensors of what a recurrent network returns."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [tensor for part in result for tensor in parts(part)]


CASES = [
    pytest.param(kind, options, id=f"{kind} {name}")
    for kind in KINDS
    for name, options in OPTIONS.items()
    if name != "projected" or kind == "LSTM"
]


@pytest.mark.parametrize("given", ["tensor", "unbatched", "packed", "states"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_layer_by_layer_is_torchs_own_kernel(
    kind: str, options: dict[str, Any], given: str
) -> None:
    rnn = network(kind, **options)
    arguments: tuple[Any, ...] = (X,)
    if given == "unbatched":
        arguments = (X[:, 0],)
    elif given == "packed":
        first = options.get("batch_first", False)
        x = torch.randn(3, 7, 4) if first else torch.randn(7, 3, 4)
        lengths = torch.tensor([5, 7, 2])
        arguments = (pack_padded_sequence(x, lengths, first, enforce_sorted=False),)
    elif given == "states":
        n_rows = 5 if options.get("batch_first") else 3
        n_states = rnn.num_layers * (2 if rnn.bidirectional else 1)
        states = torch.randn(n_states, n_rows, rnn.proj_size or 6)
        cells = torch.randn(n_states, n_rows, 6)
        arguments = (X, (states, cells) if kind == "LSTM" else states)
    torch.testing.assert_close(parts(opened(rnn, *arguments)), parts(rnn(*arguments)))
    with LiveDropout(call_of(opened=False, rules=PLAIN)):
        torch.testing.assert_close(parts(rnn(*arguments)), parts(rnn(*arguments)))


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_passes_together_are_those_of_one_at_a_time(kind: str, options: dict[str, Any]) -> None:
    rnn = network(kind, **options)
    model = Function(lambda x: torch.cat([part.flatten() for part in parts(rnn(x))])[None])
    found, run = draw(model, X, 12)
    assert run.strategy == "vectorized", run.reason
    torch.testing.assert_close(found, draw(model, X, 12, "sequential")[0], rtol=1e-4, atol=1e-5)
    assert found.std(dim=0).max().item() > 1e-3


@pytest.mark.parametrize(("n_layers", "sites"), [(1, 0), (2, 1), (3, 2)])
def test_units_are_dropped_between_layers_and_never_after_the_last(
    n_layers: int, sites: int
) -> None:
    rate = 0.5 if n_layers > 1 else 0.0
    rnn = nn.RNN(4, 4, n_layers, nonlinearity="relu", bias=False, dropout=rate)
    for name, weight in rnn.named_parameters():
        # Every layer returns what it is given, if that is positive.
        weight.data = torch.eye(4) if "_ih_" in name else torch.zeros(4, 4)
    x = X.abs() + 1
    call = call_of(opened=False)
    with LiveDropout(call), torch.no_grad():
        out, _ = rnn.eval()(x)
    assert len(call.seen.sites) == sites
    # What survives all of them has doubled each time.
    assert set((out / x).round(decimals=4).unique().tolist()) <= {0.0, 2.0**sites}


def test_the_shape_of_a_site_is_that_of_the_layers_output() -> None:
    rnn = network("LSTM", bidirectional=True)
    _, run = draw(rnn, X, 4, select=0)
    assert [(site.kind, site.shape, site.p) for site in run.sites] == [
        ("recurrent", (5, 3, 12), 0.5)
    ]


class Cell(nn.Module):
    """Steps of an LSTM cell, with dropout of the hidden state or of the weights between them."""

    def __init__(self, *, bias: bool, of_weights: bool, begins: bool) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(4, 6, bias=bias), nn.Linear(6, 1)
        self.drop, self.of_weights, self.begins = nn.Dropout(0.3), of_weights, begins

    def forward(self, x: Tensor) -> Tensor:
        states = None if self.begins else (x.new_zeros(len(x), 6), x.new_zeros(len(x), 6))
        for now in x.unbind(1):
            if states is not None and self.of_weights:
                cell = self.cell
                weights = cell.weight_ih, self.drop(cell.weight_hh), cell.bias_ih, cell.bias_hh
                states = torch.lstm_cell(now, states, *weights)
            else:
                states = self.cell(now, states)
            hidden, kept = states
            hidden = hidden if self.of_weights else self.drop(hidden)
            states = hidden, kept
        out: Tensor = self.head(hidden)
        return out


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("of_weights", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_steps_of_an_lstm_cell_run_for_all_passes_at_once(
    bias: bool, of_weights: bool, begins: bool
) -> None:
    torch.manual_seed(0)
    mc = mcdrop.wrap(Cell(bias=bias, of_weights=of_weights, begins=begins))
    prediction = mc.predict_with_uncertainty(X, n_samples=4, seed=0)
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    one_by_one = mc.sample(X, 20, seed=0, strategy="sequential")
    torch.testing.assert_close(mc.sample(X, 20, seed=0), one_by_one)


def test_steps_of_an_exported_lstm_cell_run_at_once() -> None:
    model = Cell(bias=True, of_weights=False, begins=False).eval()
    run = mcdrop.predict_with_uncertainty(torch.export.export(model, (X,)), X, n_samples=4).run
    assert run is not None
    assert run.strategy == "vectorized"
