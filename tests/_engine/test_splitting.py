"""How much runs in one call: bounded memory, worked out by hand, and rows only where they may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.settings import Settings
from mcdrop._engine.splitting import passes_that_fit, redraws, rows_that_fit, treats_rows_alone
from mcdrop._live.sites import DropoutSite

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch((X,), {}, 8)
CPU = torch.device("cpu")


def plan_of(widest: int, **options: object) -> Plan:
    site = DropoutSite("drop", "dropout", 0.5, 0, (widest,), True)
    return replace(Plan(sites=(site,)), **options)  # type: ignore[arg-type]


def passes_of(model: nn.Module) -> Passes:
    return Passes(Settings("sample", model.eval(), {}), 0, CPU)


class Rows(nn.Module):
    """Drops out what a function makes of the rows."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.drop = function, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.function(x))
        return out


def test_a_tensor_much_larger_than_what_is_dropped_makes_chunks_smaller() -> None:
    # 31 MiB of float32 are 31 * 2^18 numbers; 8 MiB of what is dropped are 2^21.
    cases = ((2**8, 2**13), (2**9, 2**13), (2**11, 31 * 2**7), (2**20, 4), (2**22, 1), (2**30, 1))
    for largest, chunk in cases:
        assert passes_that_fit(plan_of(2**8, largest=largest), CPU) == chunk


class Widens(nn.Module):
    """Drops 4 units, and returns the mean of many numbers."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.drop, self.weight = nn.Dropout(0.5), nn.Parameter(torch.ones(2**14))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.drop(x).unsqueeze(-1), self.weight).mean(dim=(1, 2))


@pytest.mark.parametrize("n_rows", [1, 8])
@pytest.mark.parametrize(
    ("function", "most"),
    [
        # Up to 31 * 2^18 numbers, 4 units by 2^14 in every row and pass, in blocks of 64 passes.
        (lambda x, weight: (x * weight).sin(), 64),
        (lambda x, weight: x + weight.expand(4, -1).sin().mean(), None),
        (lambda x, weight: x.expand(-1, -1, 2**14)[:, :, :2], None),
    ],
    ids=["different by pass", "the same for all passes", "expanded"],
)
def test_what_is_computed_after_a_dropout_is_held_for_few_passes(
    function: Callable[[Tensor, Tensor], Tensor], most: int | None, n_rows: int
) -> None:
    mc, x = mcdrop.wrap(Widens(function)), X[:n_rows]
    run = mc.predict_with_uncertainty(x, n_samples=640, seed=0, task="regression").run
    assert run is not None
    assert run.sample_chunk == (640 if most is None else most // n_rows)


def test_deferred_layers_take_no_memory_so_chunks_are_larger() -> None:
    chunks = []
    for reader in ([], [nn.LayerNorm(2000)]):
        net = nn.Sequential(nn.Linear(4, 2000), nn.Dropout(0.5), *reader, nn.Linear(2000, 1))
        run = (
            mcdrop.wrap(net)
            .predict_with_uncertainty(X, n_samples=2100, seed=0, task="regression")
            .run
        )
        assert run is not None
        chunks.append(run.sample_chunk)
    # LayerNorm reads 2000 numbers of 8 rows, so that 131 passes fill the cache.
    assert chunks == [2048, 128]


def test_large_inputs_are_split_by_rows_where_rows_are_independent() -> None:
    x = torch.randn(40_000, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    prediction = mcdrop.wrap(model).predict_with_uncertainty(
        x, n_samples=32, seed=0, task="regression", control_variate=False
    )
    run = prediction.run
    assert run is not None
    # 2^19 elements hold 8 passes of 1024 rows of 64; most work comes before the dropout, so more
    # passes share it.
    assert (run.batch_size, run.sample_chunk, run.strategy) == (1024, 32, "vectorized")
    exact = model.eval()(x).detach()
    inside = ((prediction.mean - exact).abs() < 4 * prediction.mcse).double().mean().item()
    assert inside > 0.99


def test_large_inputs_whose_rows_depend_on_each_other_stay_whole() -> None:
    # 2^21 numbers and more, but time comes first: rows follow each other.
    x = torch.randn(1200, 1, 2048, generator=torch.Generator().manual_seed(0))
    mc = mcdrop.wrap(nn.Sequential(nn.Dropout(0.5), nn.GRU(2048, 4)))
    run = mc.predict_with_uncertainty(x, n_samples=2, seed=0, select=0, task="regression").run
    assert run is not None
    assert run.batch_size is None


# A chunk on the CPU holds 2^21 numbers of the widest tensor.
@pytest.mark.parametrize(
    ("widest", "fitting"),
    [(2**11, 1024), (2**21, 1), (2**22, 1), (2**20, 2), (700_000, 2), (2**15, 64), (16_000, 128)],
)
def test_passes_fill_the_cache_in_whole_blocks_of_masks(widest: int, fitting: int) -> None:
    assert passes_that_fit(plan_of(widest), CPU) == fitting


def test_a_wide_output_counts_as_well_and_split_rows_leave_a_quarter() -> None:
    assert passes_that_fit(plan_of(1, output_numel=2**15), CPU) == 64
    assert passes_that_fit(plan_of(2**15), CPU, rows_split=True) == 16


def test_more_passes_share_much_work_before_the_first_dropout() -> None:
    plan = plan_of(2**18)
    assert passes_that_fit(plan, CPU) == 8
    # A pass draws 2^18 units of 600 operations and returns one number of 12,000. Ten times the work
    # before over that: 50 passes, as a power of two 32.
    each = 100 + 2**18 * 600 + 12_000
    assert passes_that_fit(replace(plan, work_before=5 * each, work_per_pass=100), CPU) == 32
    # Never more than 16 times the memory: 128 passes.
    assert passes_that_fit(replace(plan, work_before=10**12, work_per_pass=1), CPU) == 128


def test_passes_that_return_much_share_less_of_the_work_before_the_first_dropout() -> None:
    # 2^18 numbers of 12,000 operations take 32 times as long as what comes before the dropout.
    plan = plan_of(2**10, output_numel=2**18, work_before=10**8, work_per_pass=10**6)
    assert passes_that_fit(plan, CPU) == 8


def test_what_is_deferred_counts_as_wide_as_what_is_read_of_it() -> None:
    plan = plan_of(2**18, defers=True)
    assert passes_that_fit(replace(plan, widest=2**18), CPU) == 8
    assert passes_that_fit(replace(plan, widest=2**16), CPU) == 32
    assert passes_that_fit(replace(plan, widest=1), CPU) == 128


def test_small_batches_are_not_split() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    assert rows_that_fit(passes_of(net), BATCH) is None
    assert rows_that_fit(passes_of(net), Batch((X, X[:1]), {}, None)) is None


def test_rows_are_split_so_that_eight_passes_fit_a_quarter() -> None:
    net = nn.Sequential(nn.Linear(4, 128), nn.Dropout(0.5), nn.Linear(128, 1))
    x = torch.zeros(20_000, 4)
    # 2^21 / 4 numbers hold 8 passes of 512 rows of 128.
    with torch.no_grad():
        assert rows_that_fit(passes_of(net), Batch((x,), {}, len(x))) == 512


ALONE: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "elementwise": (torch.tanh, True),
    "centered over rows": (lambda x: x - x.mean(dim=0), False),
    "running over rows": (lambda x: x.cumsum(dim=0), False),
    "scaled by the largest": (lambda x: x / x.abs().max(), False),
    "rows second": (lambda x: x.t(), False),
    "fewer rows": (lambda x: x[::2], False),
    "needs so many rows": (lambda x: x.view(8, 4), False),
}


@pytest.mark.parametrize(("function", "alone"), ALONE.values(), ids=ALONE.keys())
def test_rows_are_alone_if_the_others_make_no_difference(
    function: Callable[[Tensor], Tensor], alone: bool
) -> None:
    assert treats_rows_alone(passes_of(Rows(function)), BATCH) == alone


def test_rows_that_cannot_be_told_are_not_alone() -> None:
    passes = passes_of(Rows(torch.tanh))
    assert not treats_rows_alone(passes, Batch((X[:1],), {}, 1))
    assert not treats_rows_alone(passes, Batch((X,), {}, None))


def test_a_last_mask_is_redrawn_as_often_as_that_takes_a_tenth_of_a_pass() -> None:
    # 8 rows with 64 units and 10 classes: 512 units of 600 + 20 operations and 80 values of 12,000
    # make 1,277,440 for every mask; units of the pass itself count 512 * 600 = 307,200.
    each, own = 512 * 620 + 80 * 12_000, 512 * 600
    site = DropoutSite("drop", "dropout", 0.5, 0, (8, 64), True)
    plan = Plan(sites=(site,), output_numel=80)
    for count in (2, 4, 8, 16):
        enough = replace(plan, work_per_pass=10 * (count - 1) * each - own)
        assert redraws(enough, 100, asked=False) == count
        less = replace(enough, work_per_pass=enough.work_per_pass - 10)
        assert redraws(less, 100, asked=False) == (count // 2 if count > 2 else 0)
    # What comes before the first dropout is shared by all passes.
    before = replace(plan, work_before=100 * (10 * each - own))
    assert redraws(before, 100, asked=False) == 2
    assert redraws(before, 101, asked=False) == 0
    assert redraws(replace(plan, work_per_pass=10**12), 100, asked=False) == 16
    assert redraws(plan, 100, asked=True) == 16


def test_redrawn_values_take_memory() -> None:
    plan = Plan(output_numel=2**18)
    assert passes_that_fit(plan, CPU) == 8
    assert passes_that_fit(replace(plan, redraws=15), CPU) == 1
