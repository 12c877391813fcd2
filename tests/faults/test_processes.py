"""Other processes: workers of a DataLoader that die, forked and spawned predictions."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

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


# In a process of its own: torch's handler of dead workers raises wherever the main thread is.
_FRAGILE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, mcdrop
from torch.utils.data import DataLoader
from tests.faults.rows import model, rows_lost
from tests.faults.test_processes import Fragile, predicted
torch.set_num_threads(1)
mc = mcdrop.wrap(model())
try:
    predicted(mc, DataLoader(Fragile(int(sys.argv[2])), batch_size=10, num_workers=2))
except RuntimeError as error:
    print(type(error).__name__, error)
again = DataLoader(Fragile(None), batch_size=10, num_workers=2)
print(rows_lost(predicted(mc, again), predicted(mcdrop.wrap(model()))))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("deadly", [0, 57, 119])
def test_a_worker_that_dies_is_an_error_and_loses_no_row_afterwards(deadly: int) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _FRAGILE, root, str(deadly)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told, lost = done.stdout.strip().splitlines()[0], done.stdout.split()[-1]
    assert re.search(r"DataLoader worker .* (exited unexpectedly|killed)", told)
    assert lost == "0"


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
