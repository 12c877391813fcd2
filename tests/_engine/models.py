"""Models that cannot be batched over passes, or not always, or that count their calls."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


class InPlaceWrite(nn.Module):
    """Writes a dropped-out tensor into a view of a fresh one: vmap cannot batch it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        view = out[:, :2]
        view += self.drop(x)[:, :2]
        return out


class Branch(nn.Module):
    """Chooses its path from dropped-out values."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(x)
        return x if x.sum().item() > 0 else -x


class Inconstant(nn.Module):
    """Answers differently each time it is called, by numbers from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.body(x)) * torch.rand(1, generator=self.generator)


class LateFailure(nn.Module):
    """Can be batched, unless the rows are negative."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positive = x.sum().item() > 0
        x = self.drop(x)
        return x if positive else x * x.mean().item()


class CountsCalls(nn.Module):
    """Counts how often it runs, in a counter that copies share."""

    def __init__(self, calls: Iterator[int]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        next(self.calls)
        return x
