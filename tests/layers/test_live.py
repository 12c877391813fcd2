"""What all layers promise: live under mcdrop, in one vectorized call, and inert in eval mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import layers
from mcdrop.layers import ConcreteDropout, DropConnectLinear, LockedDropout, StochasticDepth
from tests.layers.passes import draw


class LastStep(nn.Module):
    """The output of an LSTM at the last time step."""

    def __init__(self) -> None:
        super().__init__()
        self.before = LockedDropout(0.4)
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.after = LockedDropout(0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.after(self.lstm(self.before(x))[0])[:, -1]
        return out


class Residual(nn.Module):
    """A block whose branch is dropped."""

    def __init__(self, branch: nn.Module, p: float) -> None:
        super().__init__()
        self.branch = branch
        self.drop = StochasticDepth(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.drop(self.branch(x))
        return out


def _sequence() -> torch.Tensor:
    return torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0))


def _images() -> torch.Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


CASES: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "drop connect": (
        nn.Sequential(DropConnectLinear(5, 8, 0.4), nn.ReLU(), DropConnectLinear(8, 2, 0.4)),
        _sequence(),
    ),
    "drop connect without bias": (DropConnectLinear(5, 8, 0.4, bias=False), _sequence()),
    "locked": (nn.Sequential(nn.Linear(5, 6), LockedDropout(0.4), nn.Linear(6, 2)), _sequence()),
    "locked, time first": (
        nn.Sequential(LockedDropout(0.4, batch_first=False), nn.Linear(5, 2)),
        _sequence(),
    ),
    "stochastic depth": (
        nn.Sequential(
            Residual(nn.Conv2d(3, 3, 3, padding=1), 0.3), Residual(nn.BatchNorm2d(3), 0.5)
        ),
        _images(),
    ),
    "concrete": (
        nn.Sequential(
            ConcreteDropout(nn.Conv2d(3, 4, 3), 0.3),
            nn.Flatten(),
            nn.ReLU(),
            ConcreteDropout(nn.Linear(64, 2), 0.3),
        ),
        _images(),
    ),
    "all together": (
        nn.Sequential(
            ConcreteDropout(nn.Linear(5, 6), 0.3),
            LockedDropout(0.4),
            Residual(DropConnectLinear(6, 6, 0.4), 0.5),
            nn.Dropout(0.1),
        ),
        _sequence(),
    ),
}

cases = pytest.mark.parametrize(("model", "x"), CASES.values(), ids=CASES.keys())


@cases
def test_prediction_is_vectorized_with_spread_everywhere(model: nn.Module, x: torch.Tensor) -> None:
    model = copy.deepcopy(model).train()
    prediction = mcdrop.wrap(model).predict_with_uncertainty(x, n_samples=200, seed=0)
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    assert bool((prediction.epistemic_variance > 0).all())
    assert all(site.fired for site in prediction.run.sites)


@cases
def test_every_site_alone_gives_spread(model: nn.Module, x: torch.Tensor) -> None:
    sites = mcdrop.wrap(model).sites(x)
    for live in sites:
        rates = {site.name: 0.5 if site is live else 0.0 for site in sites}
        assert bool((mcdrop.wrap(model, p=rates).sample(x, 30, seed=0).std(dim=0) > 0).any())


@cases
def test_both_strategies_draw_the_same_masks(model: nn.Module, x: torch.Tensor) -> None:
    torch.testing.assert_close(
        draw(model, x, 20, "vectorized"), draw(model, x, 20, "sequential"), rtol=1e-4, atol=1e-5
    )


@cases
def test_rate_zero_is_the_plain_model(model: nn.Module, x: torch.Tensor) -> None:
    model = copy.deepcopy(model).eval()
    assert torch.equal(mcdrop.wrap(model, p=0.0)(x), model(x))


@cases
def test_eval_mode_is_deterministic_and_draws_no_numbers(model: nn.Module, x: torch.Tensor) -> None:
    model = copy.deepcopy(model).eval()
    before = torch.get_rng_state()
    assert torch.equal(model(x), model(x))
    assert torch.equal(torch.get_rng_state(), before)


@cases
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types_are_kept(model: nn.Module, x: torch.Tensor, dtype: torch.dtype) -> None:
    model = copy.deepcopy(model).to(dtype)
    for training in (True, False):
        assert model.train(training)(x.to(dtype)).dtype == dtype
    assert mcdrop.wrap(model).sample(x.to(dtype), 2, seed=0).dtype == dtype


@cases
def test_prediction_leaves_the_model_alone(model: nn.Module, x: torch.Tensor) -> None:
    model = copy.deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    mcdrop.wrap(model).sample(x, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_sites_are_named_after_the_layers() -> None:
    model, x = CASES["all together"]
    assert [(site.name, site.shape) for site in mcdrop.wrap(model).sites(x)] == [
        ("0:dropout", (4, 7, 5)),
        ("1:dropout", (4, 1, 6)),
        ("2.branch:dropout", (1, 6, 6)),
        ("2.drop:dropout", (4, 1, 1)),
        ("3", (4, 7, 6)),
    ]


def test_locked_dropout_around_a_recurrent_layer_is_live() -> None:
    model = LastStep()
    prediction = mcdrop.wrap(model).predict_with_uncertainty(_sequence(), n_samples=50, seed=0)
    assert bool((prediction.epistemic_variance > 0).all())
    names = [site.name for site in mcdrop.wrap(model).sites(_sequence())]
    assert names == ["before:dropout", "after:dropout"]


def test_public_names_are_those_of_the_design() -> None:
    assert layers.__all__ == [
        "ConcreteDropout",
        "DropConnectLinear",
        "LockedDropout",
        "StochasticDepth",
        "concrete_regularizer",
        "inject_dropout",
        "second_moment_loss",
    ]
    found: Any = [getattr(layers, name) for name in layers.__all__]
    assert len(set(found)) == 7
