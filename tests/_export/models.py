"""Models whose passes are folded into rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Adds what was dropped out to what was not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.first(x).relu())
        x = x + self.drop(self.second(x).relu())
        found: Tensor = self.head(x)
        return found


class Recurrent(nn.Module):
    """Reads the last step of an LSTM, with rows or time first."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.net = nn.LSTM(6, 8, 2, dropout=0.3, batch_first=batch_first)
        self.head, self.batch_first = nn.Linear(8, 3), batch_first

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x if self.batch_first else x.transpose(0, 1))[0]
        found: Tensor = self.head(out[:, -1] if self.batch_first else out[-1])
        return found


class Attentive(nn.Module):
    """A transformer, with rows or time first."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.batch_first = nn.Linear(8, 3), batch_first

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x if self.batch_first else x.transpose(0, 1))
        found: Tensor = self.head(out.mean(dim=1 if self.batch_first else 0))
        return found


class TwoInputs(nn.Module):
    """Takes two arguments, and returns more than one output."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.4)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        h = self.left(left) * self.drop(self.right(right))
        return {"hidden": h, "out": self.head(h.tanh())}


def mlp() -> nn.Module:
    hidden = (nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.2))
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.2), *hidden, nn.Linear(32, 3))


def cnn() -> nn.Module:
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 3))
    return nn.Sequential(*body, nn.Conv2d(8, 8, 3), *head)


def selu() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(16, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (5, 6)),
    "cnn": (cnn, (4, 3, 12, 12)),
    "selu": (selu, (5, 6)),
    "residual": (Residual, (5, 6)),
    "lstm": (Recurrent, (4, 5, 6)),
    "lstm, time first": (lambda: Recurrent(False), (4, 5, 6)),
    "lstm, as many steps as rows": (lambda: Recurrent(False), (5, 5, 6)),
    "transformer": (Attentive, (4, 5, 8)),
    "transformer, time first": (lambda: Attentive(False), (4, 5, 8)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """Return a model in eval mode and inputs."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make().eval(), torch.randn(shape)
