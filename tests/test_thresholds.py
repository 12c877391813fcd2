"""Sizes from which something is done in parts change no answer: small models exceed them here."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop

# Each bounds memory or time, and is far above the sizes that other tests use.
THRESHOLDS = {
    "_masks.source": {"_LARGE_SITE": 64, "_KEPT_BITS": 2000},
    "_masks.stratified": {"_LARGE_PASS": 8},
    "_masks.numpy_kernels": {"_TILE": 16, "_WORKSPACE_BYTES": 512},
    "_live.last_layer": {"_TILE": 32},
    "_live.rules.folded": {"_LEAST_LINEAR": 1},
    "_fusion.layers": {"_TILE": 32},
    "_engine.site_slopes": {"_TILE": 16},
    "_engine.groups": {"_SMALL": 4},
    "_engine.passes": {"_MANY_WEIGHTS": 1},
    "_twin.recall": {"_FEWEST": 1},
    "_tasks.tails": {"_TILE": 8},
    "_tasks.tiles": {"_TILE": 8},
    "_tasks.class_maps": {"_TILE": 8, "_FEWEST_PLACES": 1},
    "_tasks.controlled_classes": {"_TILE": 64},
}
# Above these, fewer groups of passes are kept, which tell errors and strata less well.
FEWER_GROUPS = {
    "_engine.moments": {"_LARGE": 8},
    "_engine.controlled": {"_LARGE": 8},
    "_tasks.class_sums": {"_LARGE": 8},
}
SLOW = pytest.mark.slow
X = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Attends(nn.Module):
    """A transformer and a recurrent layer, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.TransformerEncoderLayer(4, 2, 8, 0.3, batch_first=True)
        self.recurrent = nn.LSTM(4, 3, 2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(
            self.recurrent(self.body(x.unsqueeze(1).expand(-1, 3, 4)))[0][:, -1]
        )
        return out


def dense(n_out: int) -> nn.Module:
    hidden = [nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Dropout(0.3), nn.Linear(8, n_out))


def of_pixels(n_out: int) -> nn.Module:
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.3)]
    return nn.Sequential(
        *first, nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.3), nn.Conv2d(4, n_out, 1)
    )


# Tolerances are for these weights.
torch.manual_seed(0)
CASES: dict[str, tuple[nn.Module, Tensor, dict[str, Any]]] = {
    "regression": (dense(2), X, {"task": "regression"}),
    "regression, kept": (dense(2), X, {"task": "regression", "keep_samples": True}),
    "regression, controlled": (dense(2), X, {"task": "regression", "control_variate": True}),
    "classes": (dense(3), X, {"task": "classification"}),
    "classes, plain": (dense(3), X, {"task": "classification", "control_variate": False}),
    "classes, controlled": (dense(3), X, {"task": "classification", "control_variate": True}),
    "binary": (dense(1), X, {"task": "binary"}),
    "labels": (dense(3), X, {"task": "multilabel"}),
    "pixels": (of_pixels(3), IMAGES, {"task": "classification"}),
    "values of pixels": (of_pixels(1), IMAGES, {"task": "regression", "noise_std": 0.1}),
    "attention": (Attends(), X, {"task": "classification"}),
    "attention, controlled": (Attends(), X, {"task": "classification", "control_variate": True}),
}


def predicted(case: str, masks: Any, **options: Any) -> Any:
    net, x, task = CASES[case]
    return mcdrop.wrap(net.eval(), masks=masks).predict_with_uncertainty(
        x, seed=0, **{**task, **options}
    )


def made_small(patch: pytest.MonkeyPatch, thresholds: dict[str, dict[str, int]]) -> None:
    for name, values in thresholds.items():
        module = importlib.import_module(f"mcdrop.{name}")
        for threshold, value in values.items():
            assert getattr(module, threshold) > value
            patch.setattr(module, threshold, value)


@pytest.mark.parametrize("masks", ["independent", pytest.param("shared", marks=SLOW)])
@pytest.mark.parametrize("n_samples", [20, pytest.param(40, marks=SLOW), 100])
@pytest.mark.parametrize("case", CASES)
def test_answers_are_the_same(
    case: str, n_samples: int, masks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predicted(case, masks, n_samples=n_samples)
    made_small(monkeypatch, THRESHOLDS)
    for name, value in predicted(case, masks, n_samples=n_samples)._tensors().items():
        torch.testing.assert_close(value, getattr(whole, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_samples", [20, *(pytest.param(s, marks=SLOW) for s in (40, 100))])
@pytest.mark.parametrize("case", CASES)
def test_fewer_groups_tell_the_same_with_other_errors(
    case: str, n_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predicted(case, "independent", n_samples=n_samples)
    made_small(monkeypatch, FEWER_GROUPS)
    for name, value in predicted(case, "independent", n_samples=n_samples)._tensors().items():
        if name.endswith("mcse"):
            assert bool(value.isfinite().all()), name
        else:
            torch.testing.assert_close(value, getattr(whole, name), rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("case", ["regression", "classes", "pixels"])
def test_stopping_when_settled(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted(case, "independent", n_samples=10_000)
    made_small(monkeypatch, THRESHOLDS | FEWER_GROUPS)
    found = predicted(case, "independent", n_samples="auto")
    name = "mean" if case == "regression" else "probs"
    torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=0, atol=0.06)
