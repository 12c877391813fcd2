"""Training of members: draws by weight, best epochs on held-out rows, nothing global."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mcdrop.estimators.network import Members
from mcdrop.estimators.rows import TrainingRows
from mcdrop.estimators.training import Recipe, _draws, _rate, train


def squared(out: Tensor, y: Tensor) -> Tensor:
    return (out - y).square().mean(dim=-1)


def line(n: int = 60) -> TrainingRows:
    x = torch.linspace(-1, 1, n, dtype=torch.float64).reshape(-1, 1)
    return TrainingRows(x, (2 * x).float(), torch.ones(n, dtype=torch.float64))


def start(n_members: int, p: float = 0.0) -> Members:
    return Members(1, [16], 1, n_members, p, "relu", torch.Generator().manual_seed(0))


def recipe(epochs: int, patience: int | None) -> Recipe:
    return Recipe(epochs, 16, 2e-2, 0.0, patience)


def test_with_equal_weights_each_row_is_drawn_once_an_epoch() -> None:
    cumulative = torch.ones(3, 10, dtype=torch.float64).cumsum(dim=1)
    drawn = _draws(cumulative, 10, torch.Generator().manual_seed(0))
    for each in drawn:
        assert sorted(each.tolist()) == list(range(10))
    assert not torch.equal(drawn[0], drawn[1])


def test_rows_are_drawn_in_proportion_to_weight_and_without_weight_never() -> None:
    weight = torch.tensor([0.0, 1.0, 0.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    drawn = _draws(weight.cumsum(dim=0).unsqueeze(0), 4000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn[0], minlength=6)
    # One draw from each of 4000 equal parts of the weight: exact but for the parts at the ends.
    assert counts.tolist() == [0, 1000, 0, 2000, 1000, 0]


def test_every_member_learns_and_the_caller_s_generator_is_left_alone() -> None:
    module, rows = start(3, p=0.1), line()
    before = torch.get_rng_state()
    fold = torch.arange(60) % 3
    generator = torch.Generator().manual_seed(1)
    train(module, rows, fold, squared, recipe(60, 60), generator)
    assert torch.equal(torch.get_rng_state(), before)
    errors = squared(module(rows.x.float()).transpose(0, 1), rows.y.expand(3, -1, -1))
    assert bool((errors.mean(dim=1) < 0.05).all())


def test_members_never_see_their_fold() -> None:
    rows = line()
    fold = torch.arange(60) % 2
    lied = TrainingRows(rows.x, torch.where((fold == 0).unsqueeze(1), rows.y, -9.0), rows.weight)
    first, second = start(2), start(2)
    train(first, rows, fold, squared, recipe(5, None), torch.Generator().manual_seed(1))
    train(second, lied, fold, squared, recipe(5, None), torch.Generator().manual_seed(1))
    # Member 1 leaves out fold 1, where the targets were changed; member 0 trains on them.
    assert torch.equal(first.weights[0][1], second.weights[0][1])
    assert not torch.equal(first.weights[0][0], second.weights[0][0])


def test_patience_stops_early_and_the_best_epoch_is_kept() -> None:
    torch.manual_seed(0)
    rows = line()
    noisy = TrainingRows(rows.x, torch.randn(60, 1), rows.weight)
    module, fold = start(2), torch.arange(60) % 2
    seen: list[Tensor] = []

    def loss(out: Tensor, y: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            seen.append(squared(out, y))
        return squared(out, y)

    epochs = train(module, noisy, fold, loss, recipe(200, 5), torch.Generator().manual_seed(1))
    assert epochs < 200
    held_out = torch.stack([(s * (fold == torch.arange(2)[:, None])).sum(dim=1) for s in seen])
    kept = squared(module(rows.x).float().transpose(0, 1), noisy.y.expand(2, -1, -1))
    kept = (kept * (fold == torch.arange(2)[:, None])).sum(dim=1)
    torch.testing.assert_close(kept, held_out.min(dim=0).values, rtol=1e-4, atol=1e-4)


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    rate = _rate(100)
    assert rate(0) == pytest.approx(0.1)
    assert rate(10) == pytest.approx(1.0)
    # Half way down the cosine, at (100 + 10) / 2.
    assert rate(55) == pytest.approx(0.5)
    assert rate(100) == pytest.approx(0.0, abs=1e-12)
    assert not math.isnan(_rate(1)(0))
