"""Memory that runs out is met by smaller chunks; memory in use does not grow with use."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mcdrop
from mcdrop._masks.numba_kernels import prepare
from tests.faults.rows import model, rows_lost

ROOT = str(Path(__file__).parents[2])

_SCARCE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import torch, mcdrop
from torch import nn
from tests.faults.rows import rows_lost
torch.set_num_threads(1)
torch.manual_seed(0)
layers = nn.Linear(8, 512), nn.Dropout(0.5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(512, 1)
net = nn.Sequential(*layers)
x = torch.randn(1000, 8)
options = dict(n_samples=200, seed=0, control_variate=False)
mc = mcdrop.wrap(net.eval())
expected = mc.predict_with_uncertainty(x, sample_chunk=10, **options)
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + 150 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
# A chunk of all passes needs 400 MB for one hidden layer.
found = mc.predict_with_uncertainty(x, sample_chunk=200, **options)
print(found.run.sample_chunk)
print(rows_lost(found.mean, expected.mean), rows_lost(found.std, expected.std))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_no_row_is_lost_when_memory_runs_out() -> None:
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, "-c", _SCARCE, ROOT],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    chunk, *lost = map(int, done.stdout.split())
    assert 1 <= chunk < 200
    assert lost == [0, 0]


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_level_over_ten_thousand_predictions_of_changing_shapes() -> None:
    # Loading Numba takes 100 MiB once, after some millions of units.
    prepare(wait=True)
    net = model()
    mc = mcdrop.wrap(net)
    rows = torch.randn(64, 3)
    levels, objects, lost = [], [], 0
    expected = mc.predict_with_uncertainty(rows, n_samples=4, seed=0, task="regression").mean
    for i in range(10_000):
        n_rows = 1 + i * 37 % 64
        found = mc.predict_with_uncertainty(
            rows[:n_rows], n_samples=4 + i % 3, seed=0, task="regression"
        )
        if i % 3 == 0:
            lost += rows_lost(found.mean, expected[:n_rows])
        if i % 2000 == 1999:
            levels.append(resident())
            objects.append(len(gc.get_objects()))
    assert lost == 0
    # After the first two thousand, in which every shape has been seen.
    assert max(levels[1:]) - levels[0] < 8 * 2**20
    assert max(objects[1:]) - objects[0] < 2000
