"""The comparison with train mode tells what is right from what is not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo_packages.comparison import compare, first_float

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Noisy(nn.Module):
    """Adds noise in training, which is no dropout and stays off."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        noise = Noise.apply(x) if self.training else x  # type: ignore[no-untyped-call]
        dropped: Tensor = self.drop(noise)
        return dropped


class Noise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Stateful(nn.Module):
    """Adds what it returned last; mcdrop starts every pass from the model as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = F.dropout(x, 0.3, self.training) + self.last
        self.last = out.detach()
        return out


def test_a_model_whose_dropout_is_live_agrees() -> None:
    row = compare("torch", "Sequential", nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3)).eval(), X)
    assert row.outcome == "agrees"
    assert (row.sites, row.draws, row.strategy) == (1, 1, "vectorized")
    assert row.ratio is not None
    assert row.ratio_error is not None
    assert abs(row.ratio - 1) < 5 * row.ratio_error + 0.02


def test_a_model_without_dropout_is_none_of_either() -> None:
    row = compare("torch", "Linear", nn.Linear(6, 8).eval(), X)
    assert (row.outcome, row.draws) == ("no dropout", 0)


def test_other_randomness_of_training_shows() -> None:
    row = compare("here", "Noisy", Noisy().eval(), X)
    assert row.outcome == "spread differs"
    assert row.draws == 2


def test_a_model_that_keeps_a_state_starts_every_pass_anew() -> None:
    assert compare("here", "Stateful", Stateful().eval(), X).outcome == "agrees"


def test_a_refusal_is_told_by_name() -> None:
    class Broken(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return super().forward(input) / 0.0

    row = compare("here", "Broken", Broken(0.3).eval(), X)
    assert row.outcome == "refused"
    assert row.reason.startswith("NonFiniteError: ")


def test_the_first_floating_point_tensor_is_the_prediction() -> None:
    ids = torch.arange(3)
    assert first_float({"ids": ids, "hidden": [X, ids]}) is X
    with pytest.raises(TypeError, match="no floating point tensor in dict"):
        first_float({"ids": ids})
