"""Predictions on the pretended device, beside those of the CPU; run as a program, prints JSON.

python -m tests.rehearsal CASE ...
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import mcdrop
from tests.pretended_cuda import Cuda, pretended_cuda

N_SAMPLES = 64


class Last(nn.Module):
    """A recurrent network whose last step is read."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.LSTM(6, 8, 2, dropout=0.3, batch_first=True), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.net(x)[0][:, -1])
        return found


class Branches(nn.Module):
    """Branches on a value, so that passes run one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        return x if bool(x.sum() > 0) else -x


class NoTensors(nn.Module):
    """Has neither parameters nor buffers, so that the inputs alone lie somewhere."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


def mlp() -> nn.Module:
    hidden = (nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.2))
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.2), *hidden, nn.Linear(32, 1))


def cnn() -> nn.Module:
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 3))
    return nn.Sequential(*body, nn.Conv2d(8, 8, 3), *head)


def wide() -> nn.Module:
    body = (nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.ReLU())
    return nn.Sequential(*body, nn.Linear(16, 512))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@dataclass(frozen=True)
class Case:
    """A model, the shape of its inputs, and how it is predicted with."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    wrap: dict[str, Any]
    predict: dict[str, Any]


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (5, 6)),
    "cnn": (cnn, (4, 3, 12, 12)),
    "lstm": (Last, (4, 5, 6)),
    "transformer": (transformer, (3, 4, 8)),
    "branches": (Branches, (5, 6)),
    "no-tensors": (NoTensors, (5, 6)),
}
CASES = {
    f"{kind}-{masks}-{'strata' if stratified else 'plain'}": Case(
        make, shape, {"masks": masks, "stratified": stratified}, {}
    )
    for kind, (make, shape) in KINDS.items()
    for masks in ("independent", "shared")
    for stratified in (True, False)
}
OPTIONS: dict[str, dict[str, Any]] = {
    "exact_last": {"exact_last": True},
    "auto": {"n_samples": "auto", "tolerance": 0.1},
    "batch_size": {"batch_size": 2},
    "keep_samples": {"keep_samples": True},
    "device": {"device": "cuda"},
    "noise_std": {"noise_std": 0.3},
    "few": {"n_samples": 20},
}
CASES |= {f"mlp-{name}": Case(*KINDS["mlp"], {}, options) for name, options in OPTIONS.items()}
# So many outputs that they are accumulated on the device.
CASES["wide"] = Case(wide, (64, 6), {}, {})
CASES["cnn-classes"] = Case(*KINDS["cnn"], {}, {"task": "classification"})


def speed_cases() -> dict[str, Case]:
    """Return the workloads of the speed table as a GPU is given them: 64 rows, S = 100."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "benchmarks"))
    from workloads import WORKLOADS

    options = {"n_samples": 100}
    return {
        f"speed-{work.name}": Case(work.build, (64, *work.rows[1:]), {}, options)
        for work in WORKLOADS
        if work.name in {"mlp-p0.1", "uci", "lstm", "residual", "transformer"}
    }


def rehearse(name: str) -> dict[str, Any]:
    """Predict there and here with other masks; return costs and how far the means are apart."""
    case = (CASES | speed_cases())[name]
    options = {"task": "regression", "n_samples": N_SAMPLES, "seed": 1, **case.predict}
    asked: list[bool] = []
    at_once = patch.multiple(
        "mcdrop._engine.schedule",
        UNITS_WORTH_COMPILING_THERE=1,
        prepare_there=lambda: asked.append(True),
    )
    torch.manual_seed(0)
    model, x = case.make().eval(), torch.randn(case.shape)
    with at_once, pretended_cuda() as log:
        there = model if "device" in options else model.to("cuda")
        given = x if "device" in options else x.to("cuda")
        mc = mcdrop.wrap(there, **case.wrap)
        mc.predict_with_uncertainty(given, **options)
        log.clear()
        p = mc.predict_with_uncertainty(given, **options)
        costs = log.launches.total(), log.syncs.total(), log.uploads.total()
        held = [v for v in p._tensors().values() if isinstance(v, Tensor)]
        stray = sum(not isinstance(v, Cuda) for v in held)
        found, spread = (v.cpu() for v in moments_of(p))
    torch.manual_seed(0)
    here = mcdrop.wrap(case.make().eval(), **case.wrap)
    q = here.predict_with_uncertainty(x, **{**options, "device": None, "seed": 2})
    expected, other = moments_of(q)
    error = ((spread.square() + other.square()) / p.n_samples).sqrt().clamp_min(1e-6)
    assert p.run is not None
    return {
        "strategy": p.run.strategy,
        "asked_for_kernels": bool(asked),
        "launches": costs[0],
        "syncs": costs[1],
        "uploads": costs[2],
        "stray": stray,
        "z": float(((found - expected).abs() / error).max()),
    }


def moments_of(prediction: Any) -> tuple[Tensor, Tensor]:
    if hasattr(prediction, "probs"):
        return prediction.probs, prediction.probs_std
    return prediction.mean, prediction.std


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps({name: rehearse(name) for name in sys.argv[1:]}))
