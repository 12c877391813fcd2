"""A look at two rows decides what a look at all of them would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.few_rows import few_rows, for_all_rows
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.planner import Planner
from mcdrop._engine.settings import Settings
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim, RowLayout

N = 7


class Recurrent(nn.Module):
    """Read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.LSTM(6, 8, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0][:, -1]


def mlp() -> nn.Module:
    hidden = (nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.Dropout(0.2))
    return nn.Sequential(*hidden, nn.Linear(32, 3))


def cnn() -> nn.Module:
    body = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.2), nn.Flatten())
    return nn.Sequential(*body, nn.Dropout(0.3), nn.Linear(800, 3))


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)


MODELS = {
    "mlp": (mlp, (6,)), "cnn": (cnn, (3, 12, 12)),
    "attention": (attention, (5, 8)), "recurrent": (Recurrent, (5, 6)),
}  # fmt: skip


def planner(model: nn.Module, batch: Batch, **options: Any) -> Planner:
    settings = Settings("sample", model.eval(), {}, **options)
    passes = Passes(settings, 0, torch.device("cpu"))
    passes.copy.watch(batch)
    return Planner(settings, passes)


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_that_of_all_rows(
    name: str, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    make, row = MODELS[name]
    batch = Batch((torch.randn(N, *row),), {}, N, range(N))
    looks = planner(make(), batch, masks=masks)
    whole = looks._look_at(batch)
    looked_at: list[int | None] = []

    def noted(self: Planner, part: Batch) -> Plan:
        looked_at.append(part.n_rows)
        return original(self, part)

    original = Planner._look_at
    monkeypatch.setattr(Planner, "_look_at", noted)
    few = looks._look(batch)
    assert looked_at == [2]
    with torch.no_grad():
        assert few == replace(whole, work_before=few.work_before, work_per_pass=few.work_per_pass)
    assert few.work_before == pytest.approx(whole.work_before, rel=0.05)
    assert few.work_per_pass == pytest.approx(whole.work_per_pass, rel=0.05)


class Paired(nn.Module):
    """Takes all of its rows together and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(N, 6))


class PerCall(nn.Module):
    """One of its masks has no rows."""

    def forward(self, x: Tensor) -> Tensor:
        weight = nn.functional.dropout(torch.ones(6), 0.5, True)
        return nn.functional.dropout(x * weight, 0.5, True)


@pytest.mark.parametrize("make", [Paired, PerCall])
def test_rows_that_do_not_stand_for_all_are_not_enough(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    batch = Batch((torch.randn(N, 6),), {}, N, range(N))
    found = planner(make(), batch)._look(batch)
    assert found.strategy == "vectorized"
    assert found.sites[-1].shape[0] == N


def test_the_first_and_the_last_row_are_looked_at() -> None:
    x = torch.arange(8.0).view(4, 2)
    assert torch.equal(few_rows(Batch((x,), {}, 4)).args[0], x[[0, 3]])
    two, unknown = Batch((x[:2],), {}, 2), Batch((x,), {}, None)
    assert few_rows(two) is two
    assert few_rows(unknown) is unknown


def site(*shape: int) -> DropoutSite:
    return DropoutSite("0", "dropout", 0.5, 0, shape, True)


@pytest.mark.parametrize(
    ("shape", "rows", "expected"),
    [
        ((2, 3), RowDim(0, 1), (N, 3)),
        ((3, 2), RowDim(1, 1), (3, N)),
        ((8, 3), RowDim(0, 4), (4 * N, 3)),
        ((5, 3), RowDim(0, 1), None),
    ],
)
def test_sites_grow_with_the_rows(
    shape: tuple[int, ...], rows: RowDim, expected: tuple[int, ...] | None
) -> None:
    plan = Plan("vectorized", sites=(site(*shape),), output_numel=4, widest=6, work_before=10)
    found = for_all_rows(replace(plan, rows=RowLayout(((rows,),), ())), 2, N)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.sites[0].shape == expected
    assert (found.output_numel, found.widest, found.work_before) == (2 * N, 3 * N, 5 * N)


def test_rows_that_are_not_known_say_nothing() -> None:
    plan = Plan("vectorized", sites=(site(2, 3),), output_numel=4)
    assert for_all_rows(plan, 2, N) is None
    assert for_all_rows(replace(plan, rows=RowLayout(((),), ())), 2, N) is None
    assert for_all_rows(replace(plan, rows=RowLayout((), ())), 2, N) is None
    known = replace(plan, rows=RowLayout(((RowDim(0, 1),),), ()))
    assert for_all_rows(replace(known, strategy="sequential"), 2, N) is None
    assert for_all_rows(replace(known, output_numel=3), 2, N) is None


def test_numbers_are_those_of_a_look_at_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, x = cnn().eval(), torch.randn(N, 3, 12, 12)
    found = mcdrop.wrap(net).sample(x, n_samples=20, seed=0)
    monkeypatch.setattr("mcdrop._engine.planner.few_rows", lambda batch: batch)
    assert torch.equal(found, mcdrop.wrap(net).sample(x, n_samples=20, seed=0))
