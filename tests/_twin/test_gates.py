"""Which training flags are opened on the copy: those of dropout, and no others."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import mcdrop
from mcdrop._twin.gates import gate_of
from tests.zoo import DropPath, hugging_face_entry

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))


class AuxiliaryHead(nn.Module):
    """Returns something else while training."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.head, self.aux = nn.Dropout(0.5), nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.drop(x)
        if self.training:
            return self.head(x), self.aux(x)
        return self.head(x)


class RateByIfStatement(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            x = F.dropout(x, 0.5)
        return x


class RateByProduct(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropout_p = 0.5 * self.training
        return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout_p)


class RateAndLoss(nn.Module):
    """Its flag switches a rate and a second output."""

    def forward(self, x: torch.Tensor) -> Any:
        out = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        if self.training:
            return out, out.square().mean()
        return out


class GaussianNoise(nn.Module):
    """User-written noise that only `stochastic=` can name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


class LockedDropout(nn.Module):
    """The well-known one of AWD-LSTM, which draws its own numbers."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return x
        mask = x.new_empty(1, x.size(1), x.size(2)).bernoulli_(1 - self.p)
        return mask.div_(1 - self.p).expand_as(x) * x


class BlockWithDropPathFunction(nn.Module):
    """Calls a drop_path function of its own with its flag."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + drop_path(x, 0.5, self.training)


def drop_path(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    if not training:
        return x
    return x * torch.bernoulli(torch.full((x.shape[0], 1, 1), 1 - p)) / (1 - p)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(x)
        if self.training:
            out: torch.Tensor = checkpoint(self.linear, x, use_reentrant=False)
            return out
        out = self.linear(x)
        return out


@pytest.mark.parametrize(
    ("module", "gate"),
    [
        (nn.Dropout(), None),
        (nn.LSTM(1, 1), None),
        (AuxiliaryHead(), None),
        (Checkpointed(), None),
        (GaussianNoise(), None),
        (RateByIfStatement(), "rate"),
        (RateByProduct(), "rate"),
        (RateAndLoss(), "mixed"),
        (DropPath(0.1), "random"),
        (LockedDropout(0.1), "random"),
        (BlockWithDropPathFunction(), "random"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gates_are_read_off_the_source(module: nn.Module, gate: str | None) -> None:
    assert gate_of(module) == gate


@pytest.mark.parametrize(
    "model",
    [RateByIfStatement(), RateByProduct(), LockedDropout(0.4), BlockWithDropPathFunction()],
    ids=lambda model: type(model).__name__,
)
def test_opened_gates_are_live(model: nn.Module) -> None:
    state = torch.get_rng_state()
    found = mcdrop.wrap(model).sample(X, 50, seed=0)
    assert found.std(dim=0).max().item() > 0.01
    assert torch.equal(found, mcdrop.wrap(model).sample(X, 50, seed=0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("model", [AuxiliaryHead(), Checkpointed()])
def test_other_training_time_behavior_stays_off(model: nn.Module) -> None:
    prediction = mcdrop.wrap(model.train()).predict_with_uncertainty(X, seed=0, task="regression")
    assert prediction.mean.shape[:2] == (6, 5)
    assert bool((prediction.epistemic_variance > 0).all())


def test_a_flag_that_switches_more_than_dropout_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Identity(), RateAndLoss())
    with pytest.raises(mcdrop.UnsupportedError, match=r"1 \(RateAndLoss\), where it switches more"):
        mcdrop.wrap(model).sample(X)
    accepted = mcdrop.wrap(model, stochastic=("1",))
    found = accepted.sample(X, 5, select=lambda out: out[0] if isinstance(out, tuple) else out)
    assert found.std(dim=0).max().item() > 0


def test_named_modules_become_live_and_their_numbers_reproducible() -> None:
    model = nn.Sequential(nn.Linear(8, 4), GaussianNoise())
    with pytest.raises(mcdrop.NoDropoutError):
        mcdrop.wrap(model).sample(X)
    for stochastic in ((GaussianNoise,), ("1",), ("GaussianNoise",)):
        mc = mcdrop.wrap(model, stochastic=stochastic)
        found = mc.sample(X, 400, seed=0)
        assert found.std(dim=0).mean().item() == pytest.approx(0.1, rel=0.02)
        assert torch.equal(found, mc.sample(X, 400, seed=0))
        (site,) = mc.sites(X)
        assert (site.name, site.kind, site.fired) == ("1", "module", True)


def test_names_and_modules_without_randomness_are_refused() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4))
    with pytest.raises(mcdrop.RangeError, match=r"`stochastic` to name modules .*\['noise'\]"):
        mcdrop.wrap(model, stochastic=("noise",)).sample(X)
    with pytest.raises(mcdrop.UnsupportedError, match="got '1', which drew none. Leave it out"):
        mcdrop.wrap(model, stochastic=("1",)).sample(X)


def test_batch_statistics_and_power_iteration_stay_as_they_are() -> None:
    linear = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
    model = nn.Sequential(linear, nn.BatchNorm1d(5), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mcdrop.wrap(model).predict_with_uncertainty(X, task="regression")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layer_drop_and_input_masking_are_not_dropout() -> None:
    model, inputs = hugging_face_entry("Wav2Vec2Model", "eager").make()
    assert model.config.layerdrop > 0  # type: ignore[union-attr, operator]
    with pytest.raises(mcdrop.NoDropoutError, match="0 < p < 1"):
        mcdrop.wrap(model, p=0.0).sample(inputs, select="last_hidden_state")


@pytest.mark.parametrize("strategy_breaker", [False, True])
def test_eight_threads_with_gates_equal_one_and_a_ninth_serves_the_plain_model(
    strategy_breaker: bool,
) -> None:
    entry = hugging_face_entry("SwinModel" if strategy_breaker else "BertModel", None)
    model, inputs = entry.make()
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    mc = mcdrop.wrap(model)
    select = "last_hidden_state"
    alone = [mc.sample(inputs, 3, seed=seed, select=select) for seed in range(8)]
    together: dict[int, torch.Tensor] = {}
    stop, wrong = threading.Event(), []

    def serve() -> None:
        with torch.no_grad():
            while not stop.is_set():
                wrong.append(not torch.equal(model(**inputs).last_hidden_state, expected))

    def work(seed: int) -> None:
        together[seed] = mc.sample(inputs, 3, seed=seed, select=select)

    ninth = threading.Thread(target=serve)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    ninth.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    ninth.join()
    assert wrong
    assert not any(wrong)
    for seed, passes in enumerate(alone):
        torch.testing.assert_close(together[seed], passes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_types(dtype: torch.dtype) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
    model = nn.Sequential(layer, nn.Linear(8, 1)).to(dtype)
    prediction = mcdrop.wrap(model).predict_with_uncertainty(X.to(dtype), seed=0, task="regression")
    assert prediction.run is not None
    assert prediction.run.dtype == str(dtype).removeprefix("torch.")
    assert prediction.mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert bool((prediction.epistemic_variance > 0).all())


def test_autocast_of_the_caller_applies() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 1))
    full = mcdrop.wrap(model).predict_with_uncertainty(X, seed=0, task="regression")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = mcdrop.wrap(model).predict_with_uncertainty(X, seed=0, task="regression")
    assert half.run is not None
    assert half.run.dtype == "bfloat16"
    assert half.run.strategy == "vectorized"
    torch.testing.assert_close(half.mean, full.mean, rtol=0.05, atol=0.05)


def test_distributed_data_parallel_is_unwrapped(tmp_path: Any) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        inner = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3))
        model = nn.parallel.DistributedDataParallel(inner)
        found = mcdrop.wrap(model).sample(X, 10, seed=0)
        assert torch.equal(found, mcdrop.wrap(inner).sample(X, 10, seed=0))
    finally:
        torch.distributed.destroy_process_group()


class InnerVmap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.func.vmap(self.drop)(x)
        return out


def test_dropout_below_a_vmap_of_the_model_is_refused_rather_than_shared() -> None:
    with pytest.raises(mcdrop.UnsupportedError, match=r"dropout below torch.func.vmap in drop"):
        mcdrop.wrap(InnerVmap()).sample(X)


def test_stochastic_depth_of_torchvision_is_live() -> None:
    ops = pytest.importorskip("torchvision.ops", reason="needs torchvision")
    model = nn.Sequential(nn.Linear(8, 8), ops.StochasticDepth(0.3, "row"))
    assert mcdrop.wrap(model).sample(X, 30, seed=0).std(dim=0).max().item() > 0


def test_drop_path_of_timm_is_live() -> None:
    layers = pytest.importorskip("timm.layers", reason="needs timm")
    model = nn.Sequential(nn.Linear(8, 8), layers.DropPath(0.3))
    assert mcdrop.wrap(model).sample(X, 30, seed=0).std(dim=0).max().item() > 0
