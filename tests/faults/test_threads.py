"""Sixteen threads on one wrapped model: the numbers of one thread, and no row lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch

import mcdrop
from tests.faults.rows import model, rows_lost

N_THREADS = 16


@dataclass
class Count:
    """What the threads did."""

    predictions: int = 0
    rows: int = 0
    lost: int = 0
    plain_calls: int = 0
    wrong_plain_calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rows: int, lost: int) -> None:
        with self._lock:
            self.predictions += 1
            self.rows += rows
            self.lost += lost


def stormed(seconds: float, rounds: int | None = None) -> Count:
    """Let all threads predict inputs of their own sizes, while another serves the plain model."""
    net = model()
    mc = mcdrop.wrap(net)
    inputs = [torch.randn(3 + 7 * i, 3, generator=_generator(i)) for i in range(N_THREADS)]
    alone = mcdrop.wrap(model())
    expected = [_mean(alone, x, seed) for seed, x in enumerate(inputs)]
    plain = [net(x) for x in inputs]
    count, end, stop = Count(), time.monotonic() + seconds, threading.Event()

    def serve() -> None:
        with torch.no_grad():
            while not stop.is_set():
                for x, right in zip(inputs, plain, strict=True):
                    count.plain_calls += 1
                    count.wrong_plain_calls += not torch.equal(net(x), right)

    def work(first: int) -> None:
        done = 0
        while time.monotonic() < end if rounds is None else done < rounds:
            seed = (first + done) % N_THREADS
            found = _mean(mc, inputs[seed], seed)
            count.add(len(expected[seed]), rows_lost(found, expected[seed]))
            done += 1

    server = threading.Thread(target=serve)
    server.start()
    try:
        with ThreadPoolExecutor(N_THREADS) as pool:
            list(pool.map(work, range(N_THREADS)))
    finally:
        stop.set()
        server.join()
    return count


def _mean(mc: mcdrop.MCDropout, x: torch.Tensor, seed: int) -> torch.Tensor:
    found = mc.predict_with_uncertainty(x, n_samples=20, seed=seed, task="regression")
    return torch.stack([found.mean, found.std], dim=1)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sixteen_threads_predict_what_one_does() -> None:
    count = stormed(0, rounds=4)
    assert (count.predictions, count.lost, count.wrong_plain_calls) == (64, 0, 0)


@pytest.mark.slow
def test_sixteen_threads_for_a_minute() -> None:
    count = stormed(60)
    assert count.predictions >= N_THREADS
    assert (count.lost, count.wrong_plain_calls) == (0, 0)
