"""The line that an error suggests runs, and makes that model random."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop.layers.suggest import injection_line

X = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(F.relu(self.hidden(x)))
        return out


class Recurrent(nn.Module):
    def __init__(self, *, head: bool, reads_state: bool = False) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # torch warns that one layer drops nothing, which is what is tested here.
            warnings.simplefilter("ignore")
            self.lstm = nn.LSTM(4, 8, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, 1) if head else nn.Identity()
        self.reads_state = reads_state

    def forward(self, x: Tensor) -> Tensor:
        sequence, (hidden, _) = self.lstm(x)
        out: Tensor = self.head(hidden[-1] if self.reads_state else sequence[:, -1])
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.attention(x, x, x)[0][:, 0])
        return out


MODELS: list[nn.Module] = [
    nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)),
    nn.Sequential(nn.Conv1d(5, 8, 3), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(16, 1)),
    nn.Linear(4, 1),
    Functional(),
    Recurrent(head=True),
    Recurrent(head=True, reads_state=True),
    Recurrent(head=False),
    Attention(),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("p", [None, 0.2])
def test_the_line_in_the_error_makes_that_model_random(model: nn.Module, p: float | None) -> None:
    with pytest.raises(mcdrop.NoDropoutError, match=r"or add it: .*\.$") as caught:
        mcdrop.predict_with_uncertainty(model, X, p=p, task="regression")
    line = re.search(r"add it: (.*)\.$", str(caught.value))
    assert line is not None
    with (
        pytest.warns(UserWarning, match="not trained with it")
        if "inject" in line[1]
        else (warnings.catch_warnings())
    ):
        # The text is our own; running it is the test.
        dropped = eval(line[1], {"mcdrop": mcdrop, "torch": torch, "model": model})  # noqa: S307
    passes = mcdrop.wrap(dropped).sample(X, 32, seed=0)
    assert bool((passes.std(dim=0) > 0).any())
    torch.testing.assert_close(dropped.eval()(X), model.eval()(X))


def test_what_looks_like_dropout_but_never_drops_is_named() -> None:
    model = Recurrent(head=True)
    text = r"L?Recurrent without any \(lstm is a LSTM with dropout=0.2, which drops between layers"
    with pytest.raises(mcdrop.NoDropoutError, match=text):
        mcdrop.wrap(model).sample(X)
    with pytest.raises(mcdrop.NoDropoutError, match="so the rates given as `p` override nothing"):
        mcdrop.wrap(model, p=0.2).sample(X)


def test_nothing_hidden_means_dropout_of_the_inputs() -> None:
    assert injection_line(nn.Linear(3, 1)) == "torch.nn.Sequential(torch.nn.Dropout(0.1), model)"
