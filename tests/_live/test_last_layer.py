"""The last dropout in closed form: exact where it is alone, refused where it is not linear."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.schedule import Schedule
from mcdrop._engine.settings import Settings
from mcdrop.layers import DropConnectLinear
from tests.oracles import TinyNet, exact_mean_and_variance

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.37, 0.9])
@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_a_single_dropout_is_integrated_exactly(
    p: float, masks: Literal["independent", "shared"]
) -> None:
    net = TinyNet(3, 10, 2, p, seed=1)
    mean, variance = exact_mean_and_variance(net, X)
    found = mcdrop.wrap(net, masks=masks).predict_with_uncertainty(
        X, n_samples=2, seed=0, exact_last=True, dtype=torch.float64
    )
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-12)
    # Masks realize the rate to 2^-17.
    np.testing.assert_allclose(found.epistemic_variance, variance, rtol=2e-3)
    np.testing.assert_allclose(found.mcse, 0, atol=1e-12)


class Deep(nn.Module):
    """Two dropouts; the second feeds the output layer, whose result is reshaped."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.layers = nn.Sequential(
            nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.4)
        )
        self.head = nn.Linear(6, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layers(x)).squeeze(-1)
        return out


def exact_deep(net: Deep) -> tuple[np.ndarray, np.ndarray]:
    """Enumerate the masks of both layers, 2^11 in all."""
    first, last, head = net.layers[0], net.layers[3], net.head
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = torch.tanh(F.linear(X, first.weight, first.bias)).double()
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 11)
    a, b = masks[:, :5], masks[:, 5:]
    weight = (torch.where(a > 0, 0.7, 0.3).prod(1) * torch.where(b > 0, 0.6, 0.4).prod(1))[:, None]
    outputs = []
    for row in hidden:
        inner = F.linear(row * a / 0.7, last.weight.double(), last.bias.double()).relu() * b / 0.6
        outputs.append(F.linear(inner, head.weight.double(), head.bias.double()).squeeze(-1))
    out = torch.stack(outputs, dim=1)
    mean = (weight * out).sum(dim=0)
    return mean.detach().numpy(), (weight * (out - mean).square()).sum(dim=0).detach().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sample_chunk": 1}, {"n_samples": "auto"}])
def test_with_other_dropouts_it_is_unbiased_and_more_precise(options: dict[str, Any]) -> None:
    net = Deep()
    mean, variance = exact_deep(net)
    mc = mcdrop.wrap(net, stratified=False)
    plain, exact = [], []
    for seed in range(40):
        kept = {"n_samples": 100, **options}
        exact.append(mc.predict_with_uncertainty(X, seed=seed, exact_last=True, **kept))
        plain.append(mc.predict_with_uncertainty(X, seed=seed, control_variate=False, **kept))
    for name, true in (("mean", mean), ("epistemic_variance", variance)):
        found = np.stack([getattr(p, name).detach().numpy() for p in exact])
        z = (found.mean(axis=0) - true) / (found.std(axis=0) / 40**0.5)
        assert np.abs(z).max() < 4.5, name
        drawn = np.stack([getattr(p, name).detach().numpy() for p in plain])
        if "n_samples" not in options:
            error = ((found - true) ** 2).mean(axis=0)
            assert (error < 0.8 * ((drawn - true) ** 2).mean(axis=0)).mean() > 0.8, name
    assert all(p.mean.shape == (6,) for p in exact)
    covered = [np.abs(p.mean.numpy() - mean) < 1.96 * p.mcse.numpy() for p in exact]
    assert np.mean(covered) > 0.88


class Residual(TinyNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.first(x)))
        out: torch.Tensor = self.last(hidden) + hidden.sum(dim=-1, keepdim=True)
        return out


class TwoHeads(TinyNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.first(x)))
        return torch.cat([self.last(hidden), self.last(hidden)], dim=-1)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (nn.Sequential(TinyNet(3, 4, 1, 0.5), nn.Tanh()), "the output is not that of a linear"),
        (nn.Sequential(TinyNet(3, 4, 1, 0.5), nn.Hardtanh(-9, 9)), "the output is not that of"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1)), "tanh"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), "the output is not that of a linear"),
        (DropConnectLinear(3, 1, p=0.5), "not to a linear layer"),
        (Residual(3, 4, 1, 0.5), "its output goes to sum"),
        (TwoHeads(3, 4, 1, 0.5), "its output goes to two linear layers"),
    ],
)
def test_what_is_not_linear_in_the_last_mask_is_refused(net: nn.Module, text: str) -> None:
    with pytest.raises(mcdrop.UnsupportedError, match=text):
        mcdrop.wrap(net).predict_with_uncertainty(X, exact_last=True)


@pytest.mark.parametrize("options", [{"keep_samples": True}, {"task": "classification"}])
def test_it_is_for_the_moments_of_regressions(options: dict[str, Any]) -> None:
    with pytest.raises(mcdrop.RangeError, match="`exact_last` to be False unless"):
        mcdrop.wrap(TinyNet(3, 4, 2, 0.5)).predict_with_uncertainty(X, exact_last=True, **options)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("change", ["hook", "attribute", "in place"])
def test_a_model_that_changes_its_output_later_on_is_noticed(change: str, strategy: Any) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
            self.config = {"scale": 1.0, "in_place": 1.0}

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x)
            if self.config["in_place"] != 1:
                y *= self.config["in_place"]
            return y if self.config["scale"] == 1 else y * self.config["scale"]

    model, x = Scaled().eval(), torch.randn(3, 4)
    mc = mcdrop.wrap(model)
    options: dict[str, Any] = {"exact_last": True, "n_samples": 16, "strategy": strategy}
    mc.predict_with_uncertainty(x, **options)
    if change == "hook":
        model.body[2].register_forward_hook(lambda module, args, output: output * 10)
    else:
        model.config["scale" if change == "attribute" else "in_place"] = 10.0
    with pytest.raises(mcdrop.UnsupportedError, match="`exact_last` to be True only where"):
        mc.predict_with_uncertainty(x, **options)


def redrawn(net: nn.Module, x: Tensor, n_samples: int, **options: Any) -> Tensor:
    """Return the passes of a schedule with redrawn masks, (S, N, ..., 1 + redraws)."""
    settings = Settings(
        "predict", net.eval(), {}, seed=3, redraws=True, control_variate=True, **options
    )
    with Schedule(settings, x, n_samples) as schedule:
        return torch.cat(
            [
                torch.cat(list(schedule.passes(number, batch, 0, n_samples)))
                for number, batch in schedule.batches()
            ],
            dim=1,
        )


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
@pytest.mark.parametrize("stratified", [True, False])
def test_redrawn_masks_are_those_of_as_many_passes(
    masks: Any, strategy: Any, stratified: bool
) -> None:
    # With a single dropout, pass s with its 16 masks is passes 16 s ... 16 s + 15 of the network.
    net = TinyNet(3, 10, 2, 0.3, seed=1)
    options = {"masks": masks, "strategy": strategy, "stratified": stratified}
    found = redrawn(net, X, 32, **options, sample_chunk=5)
    with torch.no_grad():
        torch.testing.assert_close(found[..., 0], net.eval()(X).expand(32, -1, -1))
    passes = mcdrop.wrap(net, masks=masks, stratified=stratified).sample(X, 512, seed=3)
    torch.testing.assert_close(found[..., 1:].movedim(-1, 1).flatten(0, 1), passes)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_fewer_redraws_have_strata_of_their_own(
    strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcdrop._engine.planner.redraws", lambda *_, **__: 4)
    net = TinyNet(3, 10, 2, 0.3, seed=1)
    found = redrawn(net, X, 32, strategy=strategy, sample_chunk=5)[..., 1:]
    # Redraw r of pass 16 k + s is pass 16 (4 k + r) + s of the network.
    passes = mcdrop.wrap(net).sample(X, 128, seed=3).unflatten(0, (2, 4, 16))
    torch.testing.assert_close(found.movedim(-1, 1), passes.transpose(1, 2).flatten(0, 1))


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_redrawn_masks_follow_the_hidden_units_of_their_pass(masks: Any) -> None:
    net, n_samples = Deep(), 20
    found = redrawn(net, X, n_samples, masks=masks, batch_size=4)
    assert found.shape == (n_samples, len(X), 17)
    # In every 16 masks a unit is dropped as often as not within one: their mean is near W h + b.
    off = found[..., 1:].mean(dim=-1) - found[..., 0]
    spread = found[..., 1:].std(dim=-1)
    assert float(off.square().mean()) < float(spread.square().mean()) / 16 / 4


def test_a_layer_of_random_weights_after_it_is_left_to_its_passes() -> None:
    body = nn.Sequential(nn.Conv1d(1, 64, 3, padding=1), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(body, nn.Dropout(0.5), DropConnectLinear(192, 3, p=0.5)).eval()
    x = X.unsqueeze(1)
    mc = mcdrop.wrap(net)
    options: dict[str, Any] = {"n_samples": 16, "seed": 0, "task": "classification"}
    found = mc.predict_with_uncertainty(x, **options, control_variate=True)
    assert found.run is not None
    assert "drawn" not in found.run.control_variate
