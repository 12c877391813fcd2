"""The fixed workloads: models, inputs and what mcdrop has to reach on each. Needs torch only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

__all__ = ["WORKLOADS", "Targets", "Workload", "chosen"]


@dataclass(frozen=True)
class Targets:
    """Least ratios to the hand-written loop."""

    independent: float
    shared: float


@dataclass(frozen=True)
class Workload:
    """One model with its inputs, the same on every machine and in every run.

    Attributes:
        name: Short name, as given on the command line.
        group: What kind of network it is: "head", "mlp", "recurrent" or "attention".
        text: One line for the table.
        build: Makes the model; called with torch seeded.
        rows: Shape of the inputs, rows first.
        targets: Least ratios on a CPU.
        n_samples: Passes, S.
        tiles: Numbers of passes that the dense limit tries to put into one call.
    """

    name: str
    group: str
    text: str
    build: Callable[[], nn.Module]
    rows: tuple[int, ...]
    targets: Targets
    n_samples: int = 100
    tiles: tuple[int, ...] = (1, 2, 5, 10, 25, 100)

    def make(self, device: str = "cpu") -> tuple[nn.Module, Tensor]:
        """Return the model, in eval mode, and its inputs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build().eval().to(device), torch.randn(self.rows).to(device)

    def on(self, device: str) -> Workload:
        """Return the workload as it is raced on a device: a GPU has other rows and targets."""
        if device == "cpu" or self.group not in _CUDA_TARGETS:
            return self
        return replace(self, rows=(64, *self.rows[1:]), targets=_CUDA_TARGETS[self.group])

    def small(self) -> Workload:
        """Return the same model with few rows and passes, to try a script out."""
        rows = (min(4, self.rows[0]), *self.rows[1:])
        return replace(self, rows=rows, n_samples=20, tiles=(1, 10))


_CUDA_TARGETS = {
    "head": Targets(50, 50),
    "mlp": Targets(10, 10),
    "attention": Targets(10, 10),
}


class Block(nn.Module):
    """A residual block with dropout between its two layers."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LastStep(nn.Module):
    """An LSTM read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 64, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.lstm(x)
        return self.head(steps[:, -1])


class Pooled(nn.Module):
    """A TransformerEncoder averaged over tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, dim_feedforward=256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        # The layers are copies of one; networks that differ by layer are the honest case.
        self.encoder.layers = nn.ModuleList(
            [copy.deepcopy(layer).apply(_redraw) for _ in self.encoder.layers]
        )
        self.head = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(dim=1))


def _redraw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.reset_parameters()


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(1024, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10),
    )  # fmt: skip


def _mlp(p: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Dropout(p),
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(p),
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(p), nn.Linear(512, 1),
    )  # fmt: skip


def _uci() -> nn.Module:
    # Gal & Ghahramani (2016): dropout on the inputs as well as on the hidden layer.
    return nn.Sequential(
        nn.Dropout(0.05), nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1)
    )


def _residual() -> nn.Module:
    blocks = [Block(256, 0.1) for _ in range(4)]
    return nn.Sequential(nn.Linear(64, 256), *blocks, nn.LayerNorm(256), nn.Linear(256, 1))


WORKLOADS = (
    Workload(
        "cnn-head",
        "head",
        "CNN, dropout only before the last layer, 64x3x32x32",
        _cnn,
        (64, 3, 32, 32),
        Targets(80, 100),
        tiles=(1, 2, 4),
    ),
    Workload(
        "mlp-p0.1",
        "mlp",
        "MLP 64-512-512-512-1, p = 0.1, 256 rows",
        lambda: _mlp(0.1),
        (256, 64),
        Targets(2.6, 3.5),
    ),
    Workload(
        "mlp-p0.5",
        "mlp",
        "MLP 64-512-512-512-1, p = 0.5, 256 rows",
        lambda: _mlp(0.5),
        (256, 64),
        Targets(3.3, 8),
    ),
    Workload(
        "uci",
        "mlp",
        "MLP 13-50-1, p = 0.05, 51 rows, S = 10,000",
        _uci,
        (51, 13),
        Targets(6, 15),
        n_samples=10_000,
        tiles=(25, 100, 500, 2_000),
    ),
    Workload(
        "lstm",
        "recurrent",
        "2-layer LSTM, hidden 64, dropout 0.3, 32x20x16",
        LastStep,
        (32, 20, 16),
        Targets(2.4, 3.3),
    ),
    Workload(
        "transformer",
        "attention",
        "2-layer TransformerEncoder, d = 128, p = 0.1, 8x32 tokens",
        Pooled,
        (8, 32, 128),
        Targets(2.5, 3.5),
    ),
    Workload(
        "residual",
        "mlp",
        "Residual MLP, 4 blocks of 256, p = 0.1, 256 rows",
        _residual,
        (256, 64),
        Targets(3, 4),
    ),
)


def chosen(names: list[str] | None, device: str, *, smoke: bool) -> list[Workload]:
    """Return the workloads named on the command line, all if none is."""
    known = [workload.name for workload in WORKLOADS]
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise SystemExit(f"--workload: expected one of {known}, but got {unknown}.")
    picked = [work.on(device) for work in WORKLOADS if names is None or work.name in names]
    return [work.small() for work in picked] if smoke else picked
