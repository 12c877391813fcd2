"""The compiled training loop of the UCI benchmark against PyTorch and a closed form."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mcdrop.baselines import equivalent_ridge_penalty

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = os.environ.get("MCDROP_UCI_DIR")
# Numba compiles the loop for several seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def uci(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    pytest.importorskip("numba")
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda module: importlib.import_module(f"uci.{module}")


def table_of(uci: Callable[[str], Any], n: int = 40) -> Any:
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 3)) * [1.0, 10.0, 0.1] + 4
    return uci("data").Table(X, np.sin(X[:, 0]) * 3 + random.normal(size=n))


@pytest.mark.parametrize("heteroscedastic", [False, True])
@pytest.mark.parametrize("hidden", [(8,), (8, 5)])
@pytest.mark.parametrize("cosine", [False, True])
def test_full_batches_without_dropout_are_trained_as_by_torch(
    uci: Callable[[str], Any], hidden: tuple[int, ...], heteroscedastic: bool, cosine: bool
) -> None:
    training, table, epochs, decay = uci("training"), table_of(uci), 30, 1e-2
    recipe = training.Recipe(
        hidden, 0.0, 0.0, decay, epochs, 40, 1e-2, cosine=cosine, heteroscedastic=heteroscedastic
    )
    (found,) = training.train_networks([training.Job(table, recipe, 3)], 1)
    start = training.Recipe(hidden, 0.0, 0.0, decay, 0, 40, heteroscedastic=heteroscedastic)
    (reference,) = training.train_networks([training.Job(table, start, 3)], 1)
    net = reference.network.double()
    x = torch.tensor((table.X - table.X.mean(0)) / table.X.std(0))
    y = torch.tensor((table.y - table.y.mean()) / table.y.std())
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for _ in range(epochs):
        adam.zero_grad()
        out = net(x)
        squares = (out[:, 0] - y).square()
        loss = squares.mean()
        if heteroscedastic:
            s = out[:, 1]
            each = 0.5 * (s + squares * (-s).exp())
            loss = ((0.5 * s).exp().detach() * each).mean()
        weights = [p for p in net.parameters() if p.ndim == 2]
        (loss + decay * sum(w.square().sum() for w in weights)).backward()
        adam.step()
        if cosine:
            falling.step()
    for ours, theirs in zip(found.network.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-3, rtol=0)


def test_input_dropout_of_a_linear_network_is_ridge(uci: Callable[[str], Any]) -> None:
    training, rate = uci("training"), 0.3
    random = np.random.default_rng(0)
    X = random.normal(size=(64, 3))
    table = uci("data").Table(X, X @ [1.0, -2.0, 0.5])
    recipe = training.Recipe((), 0.0, rate, 0.0, 6000, 32, 2e-3, cosine=True)
    jobs = [training.Job(table, recipe, seed) for seed in range(4)]
    networks = training.train_networks(jobs, 2)
    found = torch.stack([net.network[1].weight[0] for net in networks]).mean(dim=0)
    x, y = (X - X.mean(0)) / X.std(0), (table.y - table.y.mean()) / table.y.std()
    penalty = np.diag(np.broadcast_to(equivalent_ridge_penalty(x, rate), 3))
    expected = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=0.02)


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.5])
def test_masks_have_the_rate_they_should_and_neighbors_are_independent(
    uci: Callable[[str], Any], rate: float
) -> None:
    scale = np.zeros(1_000_001, np.float32)
    uci("kernel")._draw(np.uint64(12345), rate, scale)
    dropped = scale == 0
    assert set(np.unique(scale[~dropped])) == {np.float32(1 / (1 - rate))}
    error = np.sqrt(rate * (1 - rate) / len(scale))
    assert dropped.mean() == pytest.approx(rate, abs=4 * error)
    for lag in (1, 2, 50):
        both = (dropped[lag:] & dropped[:-lag]).mean()
        assert both == pytest.approx(rate**2, abs=4 * rate / np.sqrt(len(scale)))


def test_a_network_depends_on_its_own_job_alone(uci: Callable[[str], Any]) -> None:
    training, table = uci("training"), table_of(uci)
    recipe = training.Recipe((8,), 0.1, 0.1, 1e-4, 3)
    jobs = [training.Job(table, recipe, seed) for seed in range(3)]
    memory: dict[str, nn.Module] = {}
    together = training.train_networks(jobs, 2, memory=memory)
    (alone,) = training.train_networks(jobs[1:2], 1)
    for ours, theirs in zip(together[1].parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(together[0].network[1].weight, alone.network[1].weight)
    again = training.train_networks(jobs, 2, memory=memory)
    assert all(a is b for a, b in zip(again, together, strict=True))


def test_constant_features_and_targets_do_not_divide_by_zero(uci: Callable[[str], Any]) -> None:
    training, table = uci("training"), uci("data").Table(np.ones((8, 2)), np.full(8, 3.0))
    recipe = training.Recipe((4,), 0.1, 0.1, 1e-4, 2)
    (found,) = training.train_networks([training.Job(table, recipe, 0)], 1)
    assert bool(found(torch.ones(8, 2)).isfinite().all())


@pytest.mark.skipif(DATA is None, reason="MCDROP_UCI_DIR is not set")
def test_yacht_is_reproduced_within_two_standard_errors(
    uci: Callable[[str], Any], tmp_path: Path
) -> None:
    running, tables = uci("running"), uci("tables")
    options = running.Options(Path(DATA or ""), tmp_path, ("yacht",), ("mc_dropout",))
    running.run_all(options)
    content, _ = tables.collected(options)
    for measure, each in content["sets"]["yacht"].items():
        published = uci("published").reference("yacht", "table1", measure)
        error = np.std(published.per_split, ddof=1) / np.sqrt(20)
        assert abs(each["difference"]) < 2 * error, measure
