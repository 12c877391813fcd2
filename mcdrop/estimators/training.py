"""Training of all members at once, each without the fold that it is tested on.

Why `mcdrop.baselines` has another loop is said in `mcdrop.baselines.stacked`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.estimators.network import Members
from mcdrop.estimators.rows import TrainingRows

__all__ = ["Recipe", "train"]

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Walks over the rows, at most.
        batch_size: Rows of a step and member.
        learning_rate: Largest rate of AdamW; it rises for a tenth of the steps, then falls along a
            cosine to zero.
        weight_decay: Of AdamW (Loshchilov & Hutter 2019).
        patience: Epochs without a better held-out loss of any member before training stops; None
            trains all epochs and keeps the last weights.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int | None


def train(
    module: Members,
    rows: TrainingRows,
    fold: Tensor,
    loss: Loss,
    recipe: Recipe,
    generator: torch.Generator,
) -> int:
    """Train all members, and keep the weights of each at its best epoch on its own fold.

    Args:
        module: The members, in the scale of the rows; changed in place.
        rows: Training rows in float64.
        fold: Which member leaves out each row, (N,); -1 for none.
        loss: From outputs (M, n, K) and targets (M, n, ...), in scaled units, to losses (M, n).
        recipe: How to train.
        generator: Source of batches and masks.

    Returns:
        Number of epochs run.
    """
    x = ((rows.x - module.x_mean.double()) / module.x_std.double()).float()
    y, weight = rows.y, rows.weight
    held_out = fold.unsqueeze(0) == torch.arange(module.n_members).unsqueeze(1)
    cumulative = torch.where(held_out, 0.0, weight).cumsum(dim=1)
    share = torch.where(held_out, weight, 0.0).float()
    is_tested = bool(held_out.any(dim=1).all()) and recipe.patience is not None
    # As many draws as rows; a row of weight k is as good as k rows.
    n_draws = max(len(rows), round(weight.sum().item()))
    n_steps = math.ceil(n_draws / recipe.batch_size)
    optimizer = torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(recipe.epochs * n_steps))
    drop = _dropout(module.p, generator)
    best = _Best(module)
    for epoch in range(1, recipe.epochs + 1):
        drawn = _draws(cumulative, n_draws, generator)
        for batch in drawn.split(math.ceil(n_draws / n_steps), dim=1):
            optimizer.zero_grad()
            loss(module.layers(x[batch], drop), y[batch]).mean(dim=1).sum().backward()
            optimizer.step()
            schedule.step()
        if is_tested:
            with torch.no_grad():
                every = x.expand(module.n_members, *x.shape)
                out = loss(module.layers(every, _keep), y.expand(module.n_members, *y.shape))
                best.see((out * share).sum(dim=1) / share.sum(dim=1), epoch)
            if epoch - best.epoch >= (recipe.patience or 0):
                break
    if is_tested:
        best.restore()
    return epoch


class _Best:
    """The weights of each member at its lowest held-out loss."""

    def __init__(self, module: Members) -> None:
        self.epoch = 0
        self._parameters = [p.detach() for p in module.parameters()]
        self._kept = [p.clone() for p in self._parameters]
        self._lowest = torch.full((module.n_members,), math.inf)

    def see(self, losses: Tensor, epoch: int) -> None:
        """Keep the weights of the members that are better than ever, (M,)."""
        better = losses < self._lowest
        self._lowest = torch.where(better, losses, self._lowest)
        for kept, now in zip(self._kept, self._parameters, strict=True):
            kept[better] = now[better]
        if bool(better.any()):
            self.epoch = epoch

    def restore(self) -> None:
        """Put the weights back."""
        for kept, now in zip(self._kept, self._parameters, strict=True):
            now.copy_(kept)


def _draws(cumulative: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` rows for each member with probability proportional to weight, (M, n).

    One draw from each of n equal parts of the total weight, in random order: with n rows of one
    weight, each is drawn once.
    """
    n_members = len(cumulative)
    u = (
        torch.arange(n)
        + torch.rand(n_members, n, generator=generator, dtype=torch.float32).double()
    ) / n
    rows = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
    order = torch.rand(n_members, n, generator=generator, dtype=torch.float32).argsort(dim=1)
    return rows.clamp_max(cumulative.shape[1] - 1).gather(1, order)


def _dropout(p: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return dropout that draws from a generator of its own."""

    def drop(hidden: Tensor) -> Tensor:
        kept = torch.rand(hidden.shape, generator=generator, dtype=torch.float32) >= p
        return hidden * kept / (1 - p)

    return drop


def _keep(hidden: Tensor) -> Tensor:
    return hidden


def _rate(n_steps: int) -> Callable[[int], float]:
    """Return the schedule of the learning rate."""
    warm = max(1, n_steps // 10)

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))

    return rate
