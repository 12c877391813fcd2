"""Calls of dropout functions are noted where their rate is above zero, and answered without."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.observe import observe

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (X.clone(),), {}


def test_dropout_calls_are_noted_and_answered() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.1)
            self.rnn = nn.GRU(8, 8, 2, dropout=0.2)
            self.single = nn.GRU(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.attention(x, x, x)[0]
            x = self.single(self.rnn(self.drop(x))[0])[0]
            x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)
            return F.dropout(x, 0.0)

    model = Model().eval()
    seen = observe(model, inputs)
    assert [(draw.path, draw.kind) for draw in seen.draws] == [
        ("attention", "multi_head_attention_forward"),
        ("drop", "dropout"),
        ("rnn", "gru"),
        ("", "scaled_dot_product_attention"),
    ]
    assert all(draw.is_call and draw.meets == {"mask"} for draw in seen.draws)
    torch.testing.assert_close(seen.output, mcdrop.wrap(model, p=0.0)(X).detach())
