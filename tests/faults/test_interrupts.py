"""Ctrl-C, a kill, and a disk that fills up: what was finished stays, what was there stays whole."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests.faults.rows import model, rows_lost

# Not on Windows, as SIGKILL is not.
resource = pytest.importorskip("resource")

ROOT = str(Path(__file__).parents[2])
N_ROWS = 1600
OPTIONS: dict[str, Any] = {"n_samples": 10, "task": "regression", "batch_rows": 100}


@functools.cache
def table() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(N_ROWS, 3)), columns=list("abc"))


@functools.cache
def expected() -> Any:
    rows = torch.tensor(table().to_numpy(np.float32))
    return mcdrop.predict_with_uncertainty(model(), rows, n_samples=10, seed=0, task="regression")


def means(path: Path) -> Any:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["mean"]
    found = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return found[["mean_0", "mean_1"]].to_numpy()


class Interrupted(nn.Module):
    """Is stopped by Ctrl-C at one call."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.net = model()
        self.left = [at]

    def forward(self, x: Tensor) -> Tensor:
        self.left[0] -= 1
        if self.left[0] == 0:
            raise KeyboardInterrupt
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_an_interrupt_keeps_finished_rows(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "in.parquet", tmp_path / f"out{suffix}"
    table().to_parquet(data)
    from mcdrop._files.passes import BlockPredictor

    predict = BlockPredictor.__call__
    kept: list[int] = []

    def stopped(self: BlockPredictor, block: Any) -> Any:
        if block.first == 100 * (len(kept) + 1):
            raise KeyboardInterrupt
        return predict(self, block)

    monkeypatch.setattr(BlockPredictor, "__call__", stopped)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            mcdrop.predict_file(model(), data, out, **OPTIONS)
        kept.append(len(list(Path(f"{out}.parts").glob("rows-*.parquet"))))
    assert kept == [1, 2, 3]
    monkeypatch.undo()
    done = mcdrop.predict_file(model(), data, out, **OPTIONS)
    assert done.n_kept == 300
    assert rows_lost(means(out), expected().mean) == 0


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_an_interrupt_in_the_model_leaves_a_wrapper_that_predicts(at: int) -> None:
    rows = torch.tensor(table().to_numpy(np.float32))
    net = Interrupted(at).eval()
    mc = mcdrop.wrap(net)
    with suppress(KeyboardInterrupt):
        mc.predict_with_uncertainty(rows, n_samples=10, seed=0, task="regression", batch_size=100)
    net.left[0] = -1
    again = mc.predict_with_uncertainty(rows, n_samples=10, seed=0, task="regression")
    assert rows_lost(again.mean, expected().mean) == 0


# A file system that takes no more: the limit on the size of a file fails a write half way, as a
# full disk does, and needs no rights.


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@functools.cache
def report() -> Any:
    rng = np.random.default_rng(0)
    prediction = mcdrop.RegressionPrediction.from_mean_std(rng.normal(size=60), 1.0)
    return mcdrop.calibration_report(prediction, rng.normal(size=60))


WRITERS: dict[str, Callable[[Path], Any]] = {
    "p.pt": lambda path: expected().save(path),
    "p.npz": lambda path: expected().save(path),
    "p.csv": lambda path: expected().save(path),
    "p.parquet": lambda path: expected().save(path),
    "r.json": lambda path: report().to_json(path),
    "r.html": lambda path: report().to_html(path),
    "card.md": lambda path: report().to_model_card(path),
}
_DRAWN = "r.html"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == _DRAWN)) for name in WRITERS],
)
def test_a_full_disk_leaves_the_file_that_was_there(name: str, tmp_path: Path) -> None:
    path, write = tmp_path / name, WRITERS[name]
    write(path)
    before = path.read_bytes()
    for share in (0.0, 0.5, 0.99):
        with room_for(int(share * len(before))), pytest.raises((OSError, RuntimeError)):
            write(path)
        assert path.read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == [name]
    write(path)
    assert path.stat().st_size == len(before)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_a_full_disk_during_file_prediction_keeps_finished_rows(
    suffix: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "in.parquet", tmp_path / f"out{suffix}"
    table().to_parquet(data)
    # Parts fit, the joined file does not.
    largest = 20_000
    with room_for(largest), pytest.raises(OSError, match="finished rows are kept in"):
        mcdrop.predict_file(model(), data, out, **OPTIONS)
    assert not out.exists()
    done = mcdrop.predict_file(model(), data, out, **OPTIONS)
    assert done.n_kept == N_ROWS
    assert out.stat().st_size > largest
    assert rows_lost(means(out), expected().mean) == 0


_WRITES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.faults import test_interrupts as made
write = made.WRITERS[Path(sys.argv[2]).name]
print("begun", flush=True)
while True:
    write(Path(sys.argv[2]))
"""


def whole(path: Path) -> bool:
    """Whether a file can be read, to its end."""
    if path.suffix == ".json":
        return len(json.loads(path.read_text())["methods"]) > 0
    if path.suffix == ".html":
        return path.read_text().rstrip().endswith("</html>")
    if path.suffix == ".md":
        return path.read_text().startswith("---")
    if path.suffix == ".pt":
        return rows_lost(mcdrop.load_prediction(path).mean, expected().mean) == 0  # type: ignore[union-attr]
    return rows_lost(means(path), expected().mean) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_leaves_a_whole_file(name: str, tmp_path: Path) -> None:
    path, chance = tmp_path / name, random.Random(name)
    environment = {**os.environ, "PYTHONPATH": ROOT}
    for _ in range(5):
        command = [sys.executable, "-c", _WRITES, ROOT, str(path)]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        while not path.exists():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        assert whole(path)
