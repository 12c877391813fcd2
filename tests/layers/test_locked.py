"""Locked dropout: one mask for all time steps, independent rows and features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mcdrop._engine.record import Strategy
from mcdrop.errors import RangeError, ShapeError
from mcdrop.layers import LockedDropout
from tests.layers.passes import assert_moments, draw


class SumOverTime(nn.Module):
    """Adds up the time steps and features of (N, time, features)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=(1, 2)).unsqueeze(1)


class TimeFirst(nn.Module):
    """Runs a layer on the transpose, with time first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(x.transpose(0, 1))
        return found.transpose(0, 1)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_mask_is_the_same_at_every_time_step(batch_first: bool, strategy: Strategy) -> None:
    x = torch.ones(3, 7, 5)
    passes = draw(LockedDropout(0.2, batch_first), x, 50, strategy)
    time, rows = (2, 1) if batch_first else (1, 2)
    assert bool((passes == passes.narrow(time, 0, 1)).all())
    for dim in (rows, 3):
        assert bool((passes != passes.narrow(dim, 0, 1)).any())
    # The realized rate is within 2^-17 of the nominal one.
    kept = passes[passes != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.8), rtol=1e-4, atol=0)


def test_rows_and_features_are_independent_and_dropped_at_the_rate() -> None:
    n = 20_000
    dropped = (draw(LockedDropout(0.3), torch.ones(3, 2, 4), n)[:, :, 0] == 0).double()
    units = dropped.flatten(1)
    assert (units.mean(dim=0) - 0.3).abs().max() < 4 * (0.3 * 0.7 / n) ** 0.5
    correlation = torch.corrcoef(units.T) - torch.eye(12)
    # 66 correlations, each with standard error 1 / sqrt(n).
    assert correlation.abs().max() < 4.5 / n**0.5


def test_sum_over_time_has_the_variance_of_one_mask() -> None:
    p = 0.4
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # sum_h m_h (sum_t x_th) with Var(m_h) = p / (1 - p); with a mask per step the square would
    # stand inside the sum over t.
    variance = p / (1 - p) * x.sum(dim=1).square().sum(dim=1, keepdim=True)
    passes = draw(nn.Sequential(LockedDropout(p), SumOverTime()), x, 20_000)
    assert_moments(passes, x.sum(dim=(1, 2)).unsqueeze(1), variance)


def test_time_first_is_the_transpose_of_rows_first() -> None:
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1))
    rows_first = draw(LockedDropout(0.5), x, 20)
    time_first = draw(TimeFirst(LockedDropout(0.5, batch_first=False)), x, 20)
    assert torch.equal(rows_first, time_first)


@pytest.mark.parametrize("batch_first", [True, False])
def test_train_mode_draws_a_new_mask_per_call(batch_first: bool) -> None:
    torch.manual_seed(0)
    drop = LockedDropout(0.5, batch_first)
    x = torch.ones(30, 40, 3, 2)
    first, second = drop(x), drop(x)
    time = 1 if batch_first else 0
    assert bool((first == first.narrow(time, 0, 1)).all())
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 2.0}


def test_eval_mode_changes_nothing() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(LockedDropout(0.5).eval()(x), x)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"`x` to have shape \(N, time, features\), but got \(3, 4\)"
    ):
        LockedDropout(0.5)(torch.ones(3, 4))
    packed: Any = nn.utils.rnn.pack_sequence([torch.ones(3, 2)])
    with pytest.raises(
        ShapeError, match=r"\(time, N, features\), but got PackedSequence\. .* pad a packed"
    ):
        LockedDropout(0.5, batch_first=False)(packed)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_bad_rates_are_refused(p: float) -> None:
    with pytest.raises(RangeError, match=r"LockedDropout: expected `p` to lie in \[0, 1\)"):
        LockedDropout(p)


def test_repr_names_rate_and_layout() -> None:
    assert repr(LockedDropout(0.5)) == "LockedDropout(p=0.5, batch_first=True)"
