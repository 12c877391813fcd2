"""What mcdrop promises about the caller's model, threads and random state."""

from __future__ import annotations

import copy
import pickle
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mcdrop
from mcdrop._engine.record import Strategy
from mcdrop._twin.copy import structural_copy
from tests.passes import draw


class ConvNet(nn.Module):
    """BatchNorm, module and functional dropout, a buffer that forward updates in place."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout2d(0.3)
        self.head = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.fail_at: int | None = None
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        if self.fail_at is not None and self.seen >= self.fail_at:
            raise KeyboardInterrupt
        x = self.drop(torch.relu(self.norm(self.conv(x)))).mean(dim=(2, 3))
        out: torch.Tensor = self.head(F.dropout(x, 0.2, training=self.training))
        return out


class CountingNet(ConvNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return super().forward(x)


def snapshot(model: nn.Module) -> list[Any]:
    """Everything a caller could notice, in comparable form."""
    numpy_state: Any = np.random.get_state(legacy=True)
    return [
        {name: value.clone() for name, value in model.state_dict().items()},
        [(name, module.training) for name, module in model.named_modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [p._version for p in model.parameters()],
        sorted(model.__dict__),
        torch.get_rng_state(),
        numpy_state[1].tolist() + list(numpy_state[2:]),
        random.getstate(),
    ]


def same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return torch.equal(before, after)
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    if isinstance(before, list):
        return len(before) == len(after) and all(map(same, before, after))
    return bool(before == after)


X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))

CALLS: dict[str, Callable[[mcdrop.MCDropout], Any]] = {
    "predict": lambda mc: mc.predict_with_uncertainty(X, n_samples=5, task="classification"),
    "sample in batches": lambda mc: mc.sample(X, 3, batch_size=4),
    "another type": lambda mc: mc.sample(X, 3, dtype=torch.float64),
    "one pass": lambda mc: mc(X),
    "sites": lambda mc: mc.sites(X),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [ConvNet, CountingNet])
def test_nothing_of_the_caller_changes(
    call: Callable[[mcdrop.MCDropout], Any], training: bool, kind: type[ConvNet]
) -> None:
    model = kind().train(training)
    model(X).sum().backward()
    before = snapshot(model)
    with torch.no_grad():
        call(mcdrop.wrap(model))
    assert same(before, snapshot(model))


@pytest.mark.parametrize("fail_at", [1, 2, 3, 5])
def test_nothing_changes_when_forward_is_interrupted(fail_at: int) -> None:
    model = ConvNet().eval()
    model(X).sum().backward()
    model.seen, model.fail_at = 0, fail_at
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        draw(model, X, 10, "sequential")
    assert same(before, snapshot(model))
    assert model.seen == 0


def test_snapshot_notices_what_train_mode_would_do() -> None:
    model = ConvNet().eval()
    before = snapshot(model)
    model.train()
    model(X)
    model.eval()
    assert not same(before, snapshot(model))


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_batch_norm_keeps_its_running_statistics_in_use(strategy: Strategy) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    assert isinstance(model[0].running_mean, torch.Tensor)
    model[0].running_mean.fill_(5.0)
    x = torch.full((4, 3), 7.0)
    found, _ = draw(model, x, 200, strategy)
    # (7 - 5) / sqrt(1 + eps), doubled or zeroed by dropout at one half.
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 4.0), rtol=1e-4, atol=0)


def test_other_threads_see_the_plain_model_during_a_prediction() -> None:
    model = ConvNet().eval()
    with torch.no_grad():
        expected = model(X)
    stop = threading.Event()
    calls, wrong = 0, 0

    def serve() -> None:
        nonlocal calls, wrong
        with torch.no_grad():
            while calls < 1000 or not stop.is_set():
                wrong += not torch.equal(model(X), expected)
                calls += 1

    thread = threading.Thread(target=serve)
    thread.start()
    mc = mcdrop.wrap(model)
    while calls < 1000:
        mc.predict_with_uncertainty(X, n_samples=20, task="classification")
    stop.set()
    thread.join()
    assert calls >= 1000
    assert wrong == 0


def test_concurrent_predictions_equal_single_threaded_ones() -> None:
    mc = mcdrop.wrap(ConvNet())
    alone = [mc.sample(X, 8, seed=seed) for seed in range(8)]
    together: list[torch.Tensor | None] = [None] * 8

    def work(seed: int) -> None:
        together[seed] = mc.sample(X, 8, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, found in zip(alone, together, strict=True):
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda mc: pickle.loads(pickle.dumps(mc))])
def test_copied_and_pickled_wrappers_predict_the_same(remake: Callable[[Any], Any]) -> None:
    mc = mcdrop.wrap(ConvNet(), p=0.4)
    assert torch.equal(remake(mc).sample(X, 4, seed=1), mc.sample(X, 4, seed=1))


def test_weights_changed_after_wrapping_are_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    mc = mcdrop.wrap(model)
    x = torch.ones(4, 3)
    before = mc.sample(x, 4, seed=0)
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter.mul_(2)
    torch.testing.assert_close(mc.sample(x, 4, seed=0), 2 * before)
    model[0] = nn.Linear(3, 2).double()
    assert mc.sample(x.double(), 4, seed=0).dtype == torch.float64


def test_moved_wrapper_moves_the_model_it_wraps() -> None:
    model = ConvNet()
    mc = mcdrop.wrap(model).to(torch.float64)
    assert mc.sample(X.double(), 2, seed=0).dtype == torch.float64
    assert model.norm.running_mean is not None
    assert model.norm.running_mean.dtype == torch.float64


def test_gradients_flow_through_one_pass() -> None:
    model = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 1))
    mcdrop.wrap(model)(torch.ones(2, 3)).sum().backward()
    gradient = model.get_parameter("2.weight").grad
    assert gradient is not None
    # A dropped unit passes no gradient to its outgoing weight in the rows that drop it.
    assert 0 < int(gradient.eq(0).sum()) < gradient.numel()


def test_inplace_dropout_does_not_write_into_the_callers_tensor() -> None:
    x = torch.ones(4, 5)
    model = nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(5, 1))
    mcdrop.wrap(model).sample(x, 10)
    assert torch.equal(x, torch.ones(4, 5))


def test_importing_mcdrop_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, mcdrop; print([m for m in ('torch','scipy','sklearn') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_modules_share_is_shared_on_the_copy_also_while_it_is_empty() -> None:
    log: list[int] = []

    class Logs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log = log

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.log.append(len(self.log))
            return x + len(self.log)

    model = nn.Sequential(Logs(), Logs(), nn.Dropout(0.5), nn.Linear(4, 1))
    logs = [module.log for module in structural_copy(model) if isinstance(module, Logs)]  # type: ignore[attr-defined]
    assert logs[0] is logs[1]
    assert logs[0] is not log
    mcdrop.wrap(model).predict_with_uncertainty(torch.ones(2, 4), n_samples=3)
    assert log == []


def test_inference_mode_around_a_prediction_changes_no_number() -> None:
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 20))
    net.extend([nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, 1)])
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = mcdrop.wrap(net).predict_with_uncertainty(x, n_samples=40, seed=0)
    with torch.inference_mode():
        found = mcdrop.wrap(net).predict_with_uncertainty(x, n_samples=40, seed=0)
    assert found.run is not None
    assert found.run.strategy == "vectorized"
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.std, expected.std)
    assert bool((found.std > 0).all())
