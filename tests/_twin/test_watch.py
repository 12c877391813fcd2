"""Watching a run: whatever way a training flag is read, dropout is live and nothing else is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.watch import Watched, watch
from tests.zoo import GatedAttention, hugging_face_entry

P = 0.4
X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))


class Body(nn.Module):
    """A forward pass written as a function of the module."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function, self.p = function, P
        self.linear = nn.Linear(8, 8)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.linear(x))


class EarlyReturn(nn.Dropout):
    """Derived from torch's dropout, with a shortcut of its own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not self.training or self.p == 0:
            return input
        return input * torch.bernoulli(torch.full_like(input, 1 - self.p)) / (1 - self.p)


def drop_path(x: Tensor, p: float, training: bool = False) -> Tensor:
    if not training or p == 0:
        return x
    return x * torch.bernoulli(torch.full((x.shape[0], 1, 1), 1 - p)) / (1 - p)


def stochastic_depth(x: Tensor, p: float, mode: str = "row", training: bool = True) -> Tensor:
    if not training:
        return x
    noise = torch.empty([x.shape[0] if mode == "row" else 1, 1, 1]).bernoulli_(1 - p)
    return x * noise.div_(1 - p)


def drop_rows(x: Tensor, p: float, training: bool = True) -> Tensor:
    """As dropout_edge: the number of rows that are left is random."""
    if not training:
        return x
    return x[:, torch.rand(x.shape[1]) >= p]


def thresholded(x: Tensor, p: float, training: bool) -> Tensor:
    if training:
        x = x * (torch.rand(x.shape) > p).float() / (1 - p)
    return x


def early_return(body: Any, x: Tensor) -> Tensor:
    if not body.training:
        return x
    return F.dropout(x, P)


def both_branches(body: Any, x: Tensor) -> Tensor:
    if body.training:  # noqa: SIM108
        x = F.dropout(x, P).relu()
    else:
        x = x.relu()
    return x


def remembered_flag(body: Any, x: Tensor) -> Tensor:
    is_training = body.training
    if is_training:
        x = F.dropout(x, P)
    return x


def flag_of_a_child(body: Any, x: Tensor) -> Tensor:
    return F.dropout(x, P) if body.child.training else x


def noise_by_flag_of_a_child(body: Any, x: Tensor) -> Tensor:
    return drop_path(x, P, training=body.child.training)


def rate_before(body: Any, x: Tensor) -> Tensor:
    p = body.p if body.training else 0.0
    return F.dropout(x, p)


def handed_on(body: Any, x: Tensor) -> Tensor:
    out: Tensor = body.drop(x, P, training=body.training)
    return out


def scripted(body: Any, x: Tensor) -> Tensor:
    out: Tensor = torch.native_dropout(x, P, body.training)[0]
    return out


def gated_sum(body: Any, x: Tensor) -> Tensor:
    return drop_rows(x, P, training=body.training).sum(dim=1)


GATED: dict[str, nn.Module] = {
    "keyword drop_path": Body(lambda b, x: drop_path(x, P, training=b.training)),
    "keyword stochastic_depth": Body(lambda b, x: stochastic_depth(x, P, training=b.training)),
    "keyword, random rows": Body(gated_sum),
    "threshold": Body(lambda b, x: thresholded(x, P, training=b.training)),
    "subclass with early return": nn.Sequential(nn.Linear(8, 8), EarlyReturn(P)),
    "rate by flag": Body(lambda b, x: F.dropout(x, p=b.p if b.training else 0.0)),
    "rate times flag": Body(lambda b, x: F.dropout(x, p=b.p * b.training)),
    "rate on the line before": Body(rate_before),
    "remembered flag": Body(remembered_flag),
    "early return": Body(early_return),
    "both branches": Body(both_branches),
    "flag of a child": Body(flag_of_a_child, child=nn.Dropout(P)),
    "noise by the flag of a child": Body(noise_by_flag_of_a_child, child=nn.Dropout(P)),
    "native_dropout": Body(scripted),
}
EACH_GATED = pytest.mark.parametrize("name", GATED)


def spread_while_training(model: nn.Module, n: int) -> Tensor:
    """Return the standard deviation of a copy in train mode, averaged."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model.train()
        found = torch.stack([model(X) for _ in range(n)]).std(dim=0).mean()
    model.eval()
    return found


@EACH_GATED
def test_gated_dropout_is_live(name: str) -> None:
    model = GATED[name].eval()
    prediction = mcdrop.wrap(model).predict_with_uncertainty(
        X, n_samples=400, seed=0, task="regression"
    )
    ratio = prediction.epistemic_std.mean() / spread_while_training(model, 400)
    assert 0.8 < float(ratio) < 1.25
    assert prediction.run is not None
    assert "a training run was watched" in prediction.run.watched


@EACH_GATED
def test_seed_strategy_and_caller_hold_for_gated_dropout(name: str) -> None:
    model = GATED[name].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    found = mcdrop.wrap(model).sample(X, 6, seed=3)
    assert torch.equal(found, mcdrop.wrap(model).sample(X, 6, seed=3))
    alone = mcdrop.wrap(model).sample(X, 6, seed=3, strategy="sequential")
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert states[2] == random.getstate()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["keyword drop_path", "flag of a child", "rate by flag"])
def test_sites_and_single_passes_see_gated_dropout(name: str) -> None:
    mc = mcdrop.wrap(GATED[name].eval())
    assert any(site.fired for site in mc.sites(X))
    with torch.no_grad():
        # Two passes that drop whole rows may well be alike, but not twenty.
        first = mc(X)
        assert not all(torch.equal(mc(X), first) for _ in range(20))


@pytest.mark.parametrize("name", [n for n in GATED if n != "flag of a child"])
def test_rate_zero_reproduces_a_gated_model(name: str) -> None:
    model = GATED[name].eval()
    mc = mcdrop.wrap(model, p=0.0)
    with torch.no_grad():
        torch.testing.assert_close(mc(X), model(X), rtol=1e-5, atol=1e-6)


class LayerDrop(nn.Module):
    """Skips whole layers while training, as speech models do."""

    def __init__(self, rate: float = 0.9) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.drop, self.layer_drop = nn.Dropout(0.1), rate

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            dropout_probability = torch.rand([])
            skip = self.training and dropout_probability < self.layer_drop
            if not skip:
                x = self.drop(layer(x))
        return x


class LayerDropByNumPy(LayerDrop):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            skip_by_dropout = self.training and np.random.uniform() < self.layer_drop
            if not skip_by_dropout:
                x = self.drop(layer(x))
        return x


@pytest.mark.parametrize("kind", [LayerDrop, LayerDropByNumPy])
def test_layer_drop_stays_off(kind: type[LayerDrop]) -> None:
    model = kind().eval()
    with torch.no_grad():
        torch.testing.assert_close(mcdrop.wrap(model, p=0.0)(X), model(X))
    for _ in range(3):
        assert [site.name for site in mcdrop.wrap(model).sites(X)] == [
            "drop", "drop#2", "drop#3", "drop#4",
        ]  # fmt: skip


def noise(body: Any, x: Tensor) -> Tensor:
    x = F.dropout(x, P, body.training)
    return x + torch.randn_like(x) if body.training else x


def latent(body: Any, x: Tensor) -> Tensor:
    mean, log_variance = F.dropout(x, P, body.training).chunk(2, dim=-1)
    if body.training:
        return mean + torch.randn_like(mean) * (log_variance / 2).exp()
    return mean


def input_mask(body: Any, x: Tensor) -> Tensor:
    if body.training:
        x = x.masked_fill(torch.rand(x.shape) < 0.3, 7.0)
    return F.dropout(x, P, body.training)


def counted(body: Any, x: Tensor) -> Tensor:
    if body.training:
        body.steps += 1
    return F.dropout(x, P, body.training)


def with_loss(body: Any, x: Tensor) -> Any:
    x = F.dropout(x, P, body.training)
    return (x, x.mean()) if body.training else x


@pytest.mark.parametrize("function", [noise, latent, input_mask, counted, with_loss])
def test_what_is_no_dropout_stays_off(function: Callable[[Any, Tensor], Any]) -> None:
    model = Body(function).eval()
    model.register_buffer("steps", torch.zeros(()))
    prediction = mcdrop.wrap(model).predict_with_uncertainty(
        X, n_samples=300, seed=0, task="regression"
    )
    plain = Body(lambda b, x: F.dropout(x, P, b.training))
    plain.linear = model.linear
    expected = mcdrop.wrap(plain).predict_with_uncertainty(
        X, n_samples=300, seed=0, task="regression"
    )
    width = prediction.mean.shape[-1]
    torch.testing.assert_close(prediction.epistemic_std, expected.epistemic_std[..., :width])
    assert prediction.run is not None
    assert "left off: the model (it" in prediction.run.watched
    assert float(model.get_buffer("steps")) == 0


@pytest.mark.parametrize("by_hand", [False, True])
def test_dropout_of_more_than_a_few_rows_is_live(by_hand: bool) -> None:
    def forward(body: Any, x: Tensor) -> Tensor:
        x = F.dropout(x, 0.1, body.training)
        if body.training and len(x) > 4:
            x = (
                x * torch.bernoulli(torch.full_like(x, 1 - P)) / (1 - P)
                if by_hand
                else F.dropout(x, P)
            )
        return x

    model = Body(forward).eval()
    found = mcdrop.wrap(model).sample(X, 400, seed=0)
    ratio = found.std(dim=0).mean() / spread_while_training(model, 400)
    assert 0.9 < float(ratio) < 1.1


def test_a_flag_that_also_switches_a_loss_is_refused_with_its_line() -> None:
    def forward(body: Any, x: Tensor) -> Any:
        p = P if body.training else 0.0
        x = F.dropout(x, p)
        return (x, x.mean()) if body.training else x

    model = nn.Sequential(nn.Identity(), Body(forward))
    with pytest.raises(
        mcdrop.UnsupportedError,
        match=r"1 \(Body\), where it switches more than the dropout at test_watch.py:\d+: its"
        r" output differs. .*stochastic=\('1',\)",
    ):
        mcdrop.wrap(model).sample(X)


def in_a_thread(body: Any, x: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(F.dropout(x, P, training=body.training)))
    thread.start()
    thread.join()
    return F.dropout(found[0], 0.1, body.training)


def test_dropout_in_a_thread_is_refused_by_name_unless_accepted() -> None:
    model = nn.Sequential(nn.Identity(), Body(in_a_thread)).eval()
    with pytest.raises(mcdrop.UnsupportedError, match=r"1 \(Body\), where it draws random numbers"):
        mcdrop.wrap(model).sample(X)
    state = torch.get_rng_state()
    mc = mcdrop.wrap(model, stochastic=("1",))
    found = mc.sample(X, 300, seed=0)
    ratio = found.std(dim=0).mean() / spread_while_training(model, 300)
    assert 0.8 < float(ratio) < 1.25
    assert torch.equal(found, mc.sample(X, 300, seed=0))
    assert torch.equal(state, torch.get_rng_state())


def by_numpy(x: Tensor) -> Any:
    return np.random.rand(*x.shape) > P


def by_rows(x: Tensor) -> Any:
    return np.random.choice([0, 1], size=(len(x), 1, 1), p=[P, 1 - P])


def by_python(x: Tensor) -> Any:
    return np.reshape([random.random() > P for _ in range(x.numel())], tuple(x.shape))


def by_an_own_generator(x: Tensor) -> Any:
    return np.random.default_rng().random(tuple(x.shape)) > P


class NotTorchs(nn.Module):
    """Drops units by numbers that torch does not draw, and may hand on what is left."""

    def __init__(self, mask: Callable[[Tensor], Any], *, hands_on: bool | None) -> None:
        super().__init__()
        self.mask, self.after = mask, nn.Linear(8, 8) if hands_on else None
        self.weight = nn.Parameter(torch.randn(8, 8)) if hands_on is None else None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * torch.as_tensor(self.mask(x), dtype=x.dtype) / (1 - P)
        x = x if self.weight is None else F.linear(x, self.weight)
        return x if self.after is None else self.after(x)


@pytest.mark.parametrize("hands_on", [False, True])
@pytest.mark.parametrize("mask", [by_numpy, by_rows, by_python, by_an_own_generator])
def test_dropout_by_numbers_that_are_not_torchs_is_refused(
    mask: Callable[[Tensor], Any], hands_on: bool
) -> None:
    model = nn.Sequential(nn.Linear(8, 8), NotTorchs(mask, hands_on=hands_on), nn.Dropout(0.1))
    states = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    with pytest.raises(
        mcdrop.UnsupportedError,
        match=r"1 \(NotTorchs\), where it drops units by random numbers that are not torch's",
    ):
        mcdrop.wrap(model).sample(X)
    assert states == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]


@pytest.mark.parametrize("mask", [by_numpy, by_python])
def test_masks_of_numpy_and_python_are_seen_inside_a_forward_too(
    mask: Callable[[Tensor], Any],
) -> None:
    model = nn.Sequential(nn.Linear(8, 8), NotTorchs(mask, hands_on=None), nn.Dropout(0.1))
    with pytest.raises(mcdrop.UnsupportedError, match=r"1 \(NotTorchs\), where it drops units"):
        mcdrop.wrap(model).sample(X)


class GaussianDropout(nn.Module):
    """Multiplies by noise of mean one; dropout by its name."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.5 * torch.randn_like(x)) if self.training else x


class DropBlock(nn.Module):
    """Scales by the share of units that are left, which no average over masks gives."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = (torch.rand(x.shape) > P).float()
        return x * mask * (mask.numel() / mask.sum())


class UnscaledDropout(nn.Module):
    """Drops units without making the others larger."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape) > P) if self.training else x


@pytest.mark.parametrize("kind", [GaussianDropout, DropBlock, UnscaledDropout])
def test_layers_that_are_dropout_by_name_are_live(kind: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), kind()).eval()
    found = mcdrop.wrap(model).sample(X, 400, seed=0)
    ratio = found.std(dim=0).mean() / spread_while_training(model, 400)
    assert 0.8 < float(ratio) < 1.25


def test_unscaled_masks_in_other_modules_are_refused_by_name() -> None:
    model = nn.Sequential(Body(lambda b, x: x * (torch.rand(x.shape) > P) if b.training else x))
    with pytest.raises(mcdrop.UnsupportedError, match=r"0 \(Body\), .* its output differs"):
        mcdrop.wrap(model).sample(X)


def test_layer_drop_of_a_speech_model_stays_off() -> None:
    model, inputs = hugging_face_entry("Wav2Vec2Model", "eager").make()
    model.config.layerdrop = 0.9  # type: ignore[union-attr]
    mc = mcdrop.wrap(model, p=0.0)
    for _ in range(3):
        with torch.no_grad():
            found = mc(**inputs).last_hidden_state
            expected = model(**inputs).last_hidden_state
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_training_run_that_needs_labels_is_no_reason_to_refuse() -> None:
    def forward(body: Any, x: Tensor) -> Tensor:
        if body.training:
            raise ValueError("labels are needed")
        return F.dropout(x, P, body.training)

    prediction = mcdrop.wrap(Body(forward)).predict_with_uncertainty(X, seed=0, task="regression")
    assert bool((prediction.epistemic_variance > 0).any())
    assert prediction.run is not None
    assert "the model could not be watched: it raises ValueError: labels" in prediction.run.watched


def test_one_row_is_enough_beside_batch_norm() -> None:
    body = Body(lambda b, x: drop_path(x, P, training=b.training))
    model = nn.Sequential(body, nn.Flatten(), nn.BatchNorm1d(40)).eval()
    assert mcdrop.wrap(model).sample(X[:1], 20, seed=0).std(dim=0).max().item() > 0.01


def test_models_that_cannot_read_a_flag_are_not_watched() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.LSTM(8, 8))

    def never() -> Any:
        raise AssertionError

    assert watch(model, never) == Watched()
    prediction = mcdrop.wrap(model[:2]).predict_with_uncertainty(X, seed=0, task="regression")
    assert prediction.run is not None
    assert prediction.run.watched == ""


def test_named_modules_stay_as_the_user_said() -> None:
    model = nn.Sequential(Body(noise), Body(lambda b, x: drop_path(x, P, training=b.training)))
    found = mcdrop.wrap(model, stochastic=("0",)).sites(X)
    assert [site.name for site in found] == ["0", "0:dropout", "1"]


def test_a_run_is_watched_once_for_inputs_of_a_kind() -> None:
    calls = []

    def forward(body: Any, x: Tensor) -> Tensor:
        calls.append(body.training)
        return drop_path(x, P, training=body.training)

    mc = mcdrop.wrap(Body(forward))
    mc.sample(X, 2, strategy="sequential")
    first = len(calls)
    calls.clear()
    mc.sample(X, 2, strategy="sequential")
    assert len(calls) <= first - 3


def test_without_operator_modes_what_is_read_off_the_source_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcdrop._twin.watch.has_operator_modes", lambda: False)
    prediction = mcdrop.wrap(GatedAttention()).predict_with_uncertainty(
        X, seed=0, task="regression"
    )
    assert bool((prediction.epistemic_variance > 0).any())
    assert prediction.run is not None
    assert prediction.run.watched == ""


def test_a_rate_that_a_module_cannot_be_told_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return drop_path(x, P, training=self.training)

    model = nn.Sequential(nn.Dropout(0.1), Fixed())
    with pytest.raises(mcdrop.UnsupportedError, match=r"0.3 for 1 \(Fixed\)"):
        mcdrop.wrap(model, p=0.3).sample(X)
    fired = {site.name: site.p for site in mcdrop.wrap(model, p={"0": 0.3}).sites(X)}
    assert fired["0"] == 0.3
