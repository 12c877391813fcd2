"""Other processes: workers of a DataLoader that die, forked and spawned predictions."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import mcdrop
from tests.faults.rows import model, rows_lost

ROWS = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))


class Fragile(Dataset[Tensor]):
    """Kills the worker that reads one of its rows."""

    def __init__(self, deadly: int | None) -> None:
        self.deadly = deadly
        self.home = os.getpid()

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> Tensor:
        if index == self.deadly and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return ROWS[index]


def predicted(mc: mcdrop.MCDropout, inputs: Any = ROWS) -> Tensor:
    found = mc.predict_with_uncertainty(inputs, n_samples=10, seed=0, task="regression")
    return torch.stack([found.mean, found.std], dim=1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("deadly", [0, 57, 119])
def test_a_worker_that_dies_is_an_error_and_loses_no_row_afterwards(deadly: int) -> None:
    mc = mcdrop.wrap(model())
    expected = predicted(mcdrop.wrap(model()))
    loader = DataLoader(Fragile(deadly), batch_size=10, num_workers=2)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* (exited unexpectedly|killed)"):
        predicted(mc, loader)
    again = DataLoader(Fragile(None), batch_size=10, num_workers=2)
    assert rows_lost(predicted(mc, again), expected) == 0


def _predict(mc: mcdrop.MCDropout) -> list[Any]:
    torch.set_num_threads(1)
    return predicted(mc).tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_predict_the_same(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("Windows has no fork")
    mc = mcdrop.wrap(model())
    expected = predicted(mc)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        found = pool.map(_predict, [mc] * 4)
    assert [rows_lost(each, expected) for each in found] == [0] * 4
