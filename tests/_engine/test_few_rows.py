"""A look at two rows decides what a look at all of them would."""

from __future__ import annotations

from collections.abc import Callable
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
    whole = looks._look_at(batch, batch)
    looked_at: list[int | None] = []

    def noted(self: Planner, part: Batch, whole: Batch) -> Plan:
        looked_at.append(part.n_rows)
        return original(self, part, whole)

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


class Counting(nn.Module):
    """Counts the rows that each call takes, those of passes as one."""

    def __init__(self, note: Callable[[int], None]) -> None:
        super().__init__()
        self.note = note

    def forward(self, x: Tensor) -> Tensor:
        self.note(len(x))
        return x


class Gate(nn.Module):
    """Drops units where its flag says so."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5 if self.training else 0.0)


def rows_run(net: nn.Module, n_rows: int, masks: str) -> list[int]:
    rows = list[int]()
    x = torch.randn(n_rows, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch((x,), {}, n_rows, range(n_rows))
    plan = planner(nn.Sequential(Counting(rows.append), net), batch, masks=masks)._look(batch)
    assert plan.strategy == "vectorized"
    assert plan.rows is not None
    assert set(plan.rows.sites) == {(RowDim(0, 1),)}
    assert [site.shape[0] for site in plan.sites] == [n_rows] * len(plan.sites)
    return rows


@pytest.mark.parametrize("masks", ["independent", "shared"])
@pytest.mark.parametrize(
    ("n_rows", "plain", "opened"), [(1, 2, 1), (2, 3, 2), (3, 3, 2), (4, 4, 2), (5, 3, 2)]
)
def test_a_look_is_two_runs_of_different_rows(
    n_rows: int, plain: int, opened: int, masks: str
) -> None:
    assert rows_run(mlp(), n_rows, masks) == [plain, opened]


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_after_watching_a_look_is_one_run(masks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests may have registered something, which costs a run.
    monkeypatch.setattr("mcdrop._engine.in_use.registrations", lambda: 0)
    # In eval mode, with all flags, and with those chosen.
    assert rows_run(Gate(), 7, masks) == [7, 7, 7, 2]
    # Of more rows, only the first are watched, which shows the sites.
    assert rows_run(Gate(), 20, masks) == [16, 16, 16, 2, 2]
    monkeypatch.setattr("mcdrop._engine.in_use.registrations", lambda: 1)
    assert rows_run(Gate(), 7, masks) == [7, 7, 7, 2, 2]


class Centered(nn.Module):
    """What it returns for a row depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x - x.mean(dim=0))


@pytest.mark.parametrize("net", [Centered(), nn.Sequential(Centered(), Gate())])
@pytest.mark.parametrize("n_rows", [3, 4, 5])
def test_rows_that_depend_on_the_others_are_run_alone(net: nn.Module, n_rows: int) -> None:
    assert rows_run(net, n_rows, "independent")[-2:] == [2, 2]


def test_rows_that_a_model_refuses_are_left_out() -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) != 1:
                raise KeyError(len(x))
            return nn.functional.dropout(x, 0.5, True)

    batch = Batch((torch.randn(1, 6),), {}, 1, range(1))
    plan = planner(Single(), batch)._look(batch)
    assert plan.strategy == "vectorized"
    assert plan.rows is None


def test_what_differs_with_passes_still_is_no_plan() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            dropped = nn.functional.dropout(x, 0.5, True)
            return dropped + torch._C._functorch.is_batchedtensor(dropped)

    for n_rows in (1, 2, 4, 7):
        batch = Batch((torch.randn(n_rows, 6),), {}, n_rows, range(n_rows))
        for net in (Wrong(), nn.Sequential(Wrong(), Gate())):
            plan = planner(net, batch)._look(batch)
            assert plan.strategy == "sequential"
            assert "the output is off by 1" in plan.reason
