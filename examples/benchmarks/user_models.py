"""Networks of the sizes that users have: few rows, or a single one. Needs torch only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WORKLOADS", "Attention", "Workload", "chosen"]


@dataclass(frozen=True)
class Workload:
    """One model with its inputs, the same on every machine and in every run.

    Attributes:
        name: Short name, as given on the command line.
        text: One line for the table.
        build: Makes the model; called with torch seeded.
        rows: Makes the inputs, given how many rows; called with torch seeded.
        n_rows: Rows.
        n_samples: Passes, S.
        targets: Least ratios to the loop of the first and of a later call; None where none is set.
        classes: Whether the output is class scores, of which probabilities and entropies are asked.
    """

    name: str
    text: str
    build: Callable[[], nn.Module]
    rows: Callable[[int], Tensor]
    n_rows: int
    n_samples: int
    targets: tuple[float, float] | None = None
    classes: bool = False

    def make(self) -> tuple[nn.Module, Tensor]:
        """Return the model, in eval mode, and its inputs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build().eval(), self.rows(self.n_rows)

    def small(self) -> Workload:
        """Return the same model with few passes, to try a script out."""
        return replace(self, n_rows=1, n_samples=4)


class Attention(nn.Module):
    """Self-attention whose dropout is gated in Python, as Hugging Face's models do it."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads, self.p = heads, p
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of every row, (n, length, width)."""
        n, length, width = x.shape
        parts = self.qkv(x).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        p = self.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return self.drop(self.out(mixed.transpose(1, 2).reshape(n, length, width)))


class Layer(nn.Module):
    """An encoder layer, normalized after each half as in BERT."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.attention, self.drop = Attention(width, heads, p), nn.Dropout(p)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.drop(self.down(F.gelu(self.up(x)))))


class Bert(nn.Module):
    """Token embeddings, encoder layers, and a class from the first token."""

    def __init__(self, layers: int, width: int, heads: int, p: float = 0.1) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, width), nn.Embedding(512, width)
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(p)
        self.layers = nn.ModuleList([Layer(width, heads, p) for _ in range(layers)])
        self.head = nn.Linear(width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.drop(self.norm(self.tokens(ids) + self.places(places)))
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


class Patches(nn.Module):
    """torch's own encoder over patches of an image, averaged."""

    def __init__(self, layers: int, width: int, heads: int, p: float = 0.1) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, stride=8)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, p, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2)).mean(dim=1))


class Residual(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, inner: int, outer: int, stride: int, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(),
            nn.Dropout2d(p), nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer),
        )  # fmt: skip
        self.short = nn.Sequential(
            nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


def resnet(body: float, head: float) -> nn.Module:
    """Return a ResNet-10 with dropout of channels in its body, or of units before its head."""
    widths = (64, 64, 128, 256, 512)
    blocks = [Residual(a, b, 1 if a == b else 2, body) for a, b in pairwise(widths)]
    stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    pool = (nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*stem, *pool, nn.Dropout(head), nn.Linear(512, 10))


class UNet(nn.Module):
    """A U-Net of three levels with spatial dropout after every pair of convolutions."""

    def __init__(self, width: int, p: float, n_out: int = 1) -> None:
        super().__init__()
        self.first, self.second = self._pair(1, width, p), self._pair(width, 2 * width, p)
        self.bottom = self._pair(2 * width, 4 * width, p)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join_second = self._pair(4 * width, 2 * width, p)
        self.join_first = self._pair(2 * width, width, p)
        self.head = nn.Conv2d(width, n_out, 1)

    @staticmethod
    def _pair(inner: int, outer: int, p: float) -> nn.Module:
        convolutions = [
            layer
            for channels in (inner, outer)
            for layer in (nn.Conv2d(channels, outer, 3, 1, 1), nn.BatchNorm2d(outer), nn.ReLU())
        ]
        return nn.Sequential(*convolutions, nn.Dropout2d(p))

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.join_second(torch.cat([b, self.up_second(c)], dim=1))
        return self.head(self.join_first(torch.cat([a, self.up_first(b)], dim=1)))


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1),
    )  # fmt: skip


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.Flatten(),
        nn.Linear(800, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10),
    )  # fmt: skip


def _images(channels: int, size: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, channels, size, size)


WORKLOADS = (
    Workload(
        "mlp-row", "one row, MLP 8-64-64-1", _mlp, lambda n: torch.randn(n, 8), 1, 100, (2.5, 8)
    ),
    Workload("cnn-image", "one image of 28 x 28, small CNN", _cnn, _images(1, 28), 1, 100, (3, 8)),
    Workload(
        "bert",
        "BERT-like, 6 layers of 768, 4 x 64 tokens",
        lambda: Bert(6, 768, 12),
        lambda n: torch.randint(1000, (n, 64)),
        4,
        10,
        (1.15, 1.3),
    ),
    Workload(
        "resnet",
        "ResNet-10, Dropout2d in every block, 4 images of 64 x 64",
        lambda: resnet(0.1, 0.0),
        _images(3, 64),
        4,
        20,
        (1.15, 1.3),
    ),
    Workload(
        "resnet-head",
        "ResNet-10, dropout before the last layer, 4 images of 64 x 64",
        lambda: resnet(0.0, 0.5),
        _images(3, 64),
        4,
        50,
        (15, 36),
    ),
    Workload(
        "encoder",
        "TransformerEncoder, 12 layers of 192, 4 images of 64 x 64",
        lambda: Patches(12, 192, 3),
        _images(3, 64),
        4,
        20,
    ),
    Workload(
        "unet",
        "U-Net with spatial dropout, 2 images of 64 x 64",
        lambda: UNet(16, 0.1),
        _images(1, 64),
        2,
        20,
    ),
    Workload(
        "segmentation",
        "the same of 96 x 96 with 10 classes: probabilities, their spread and entropies by pixel",
        lambda: UNet(16, 0.1, 10),
        _images(1, 96),
        2,
        20,
        classes=True,
    ),
)


def chosen(names: list[str] | None, *, smoke: bool) -> list[Workload]:
    """Return the workloads named on the command line, all if none is."""
    known = [workload.name for workload in WORKLOADS]
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise SystemExit(f"--workload: expected one of {known}, but got {unknown}.")
    picked = [work for work in WORKLOADS if names is None or work.name in names]
    return [work.small() for work in picked] if smoke else picked
