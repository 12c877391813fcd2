"""Stochastic depth: whole rows, against enumeration of which branches survive."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mcdrop._engine.record import Strategy
from mcdrop.errors import RangeError
from mcdrop.layers import StochasticDepth
from tests.layers.passes import assert_moments, draw

RATES = (0.1, 0.3, 0.5)


class ResidualNet(nn.Module):
    """Three residual blocks; rates grow with depth."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(4, 4) for _ in RATES])
        self.drops = nn.ModuleList([StochasticDepth(p) for p in RATES])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branch, drop in zip(self.branches, self.drops, strict=True):
            x = x + drop(torch.tanh(branch(x)))
        return x


def test_moments_agree_with_all_choices_of_branches() -> None:
    torch.manual_seed(0)
    net = ResidualNet().double()
    x = torch.randn(3, 4, dtype=torch.float64)
    outputs, probabilities = [], []
    with torch.no_grad():
        for alive in itertools.product((False, True), repeat=3):
            y, probability = x, 1.0
            for kept, branch, p in zip(alive, net.branches, RATES, strict=True):
                probability *= 1 - p if kept else p
                if kept:
                    y = y + torch.tanh(branch(y)) / (1 - p)
            outputs.append(y)
            probabilities.append(probability)
    weights = torch.tensor(probabilities, dtype=torch.float64).view(-1, 1, 1)
    mean = (weights * torch.stack(outputs)).sum(dim=0)
    variance = (weights * (torch.stack(outputs) - mean).square()).sum(dim=0)
    assert_moments(draw(net, x, 20_000), mean, variance)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 3, 2), (5, 3, 2, 2)])
def test_rows_live_or_die_whole(shape: tuple[int, ...], strategy: Strategy) -> None:
    n = 1000
    passes = draw(StochasticDepth(0.25), torch.ones(shape), n, strategy).view(n, 5, -1)
    assert bool((passes == passes[:, :, :1]).all())
    kept = passes[passes != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.75))
    dropped = (passes[:, :, 0] == 0).double()
    assert abs(dropped.mean().item() - 0.25) < 4 * (0.25 * 0.75 / (5 * n)) ** 0.5
    correlation = torch.corrcoef(dropped.T) - torch.eye(5)
    assert correlation.abs().max() < 4.5 / n**0.5


def test_train_mode_drops_whole_rows_anew_at_each_call() -> None:
    torch.manual_seed(0)
    drop = StochasticDepth(0.5)
    first, second = drop(torch.ones(200, 3)), drop(torch.ones(200, 3))
    assert bool((first == first[:, :1]).all())
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)


def test_eval_mode_changes_nothing() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(StochasticDepth(0.5).eval()(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_bad_rates_are_refused(p: float) -> None:
    with pytest.raises(RangeError, match=r"StochasticDepth: expected `p` to lie in \[0, 1\)"):
        StochasticDepth(p)


def test_repr_names_the_rate() -> None:
    assert repr(StochasticDepth(0.5)) == "StochasticDepth(p=0.5)"
