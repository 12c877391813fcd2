"""Time several ways to the same answer, interleaved with the loop, and check each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from agreement import Agreement, Pool, compared, kurtosis_of
from by_hand import Moments, dense, live_copy, loop
from torch import Tensor, nn
from workloads import Workload

__all__ = ["Call", "Race", "Result", "best_tile", "race"]

# From a seed to mean and variance over the passes; None where there is no answer to check.
Call = Callable[[int], Moments | None]

# Calls shorter than this are repeated more often, so that their median is as steady.
_LEAST_SECONDS = 0.25
_MOST_EXTRA = 10


@dataclass(frozen=True)
class Result:
    """One contestant on one workload.

    Attributes:
        ms: Median time of one prediction in milliseconds.
        ratio: The loop's median time over this one.
        repeats: Number of times measured.
        agreement: How far the answer is from the loop's; None if there is none to check.
    """

    ms: float
    ratio: float
    repeats: int
    agreement: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        checked = None
        if self.agreement is not None:
            checked = {**asdict(self.agreement), "holds": self.agreement.holds}
        return {"ms": self.ms, "ratio": self.ratio, "repeats": self.repeats, "agreement": checked}


@dataclass(frozen=True)
class Race:
    """All contestants on one workload, measured in one process."""

    loop_ms: float
    results: dict[str, Result]


class _Stopwatch:
    """Times calls on a device."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")

    def __call__(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Return the seconds that a call takes and what it returns."""
        self._wait()
        began = time.perf_counter()
        answer = call()
        self._wait()
        return time.perf_counter() - began, answer

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


class _Contestant:
    """A call with its times and its answers."""

    def __init__(self, call: Call, watch: _Stopwatch, n_samples: int, repeats: int) -> None:
        self._call, self._watch, self._n_samples = call, watch, n_samples
        self._seed = 0
        self.seconds: list[float] = []
        self.pool = Pool()
        warm = min(self._once()[0] for _ in range(2))
        extra = int(_LEAST_SECONDS / max(warm, 1e-9) / repeats)
        self._turns = 1 + min(_MOST_EXTRA, extra)

    def turn(self) -> None:
        """Measure; every call gets a seed of its own."""
        for _ in range(self._turns):
            seconds, answer = self._once()
            self.seconds.append(seconds)
            if answer is not None:
                self.pool.add(*answer, self._n_samples)

    def _once(self) -> tuple[float, Moments | None]:
        self._seed += 1
        return self._watch(lambda: self._call(self._seed))


def best_tile(work: Workload, model: nn.Module, x: Tensor, device: str) -> int:
    """Return how many passes per call make the dense passes fastest."""
    watch = _Stopwatch(device)
    runs = {tile: dense(model, x, work.n_samples, tile) for tile in work.tiles}
    times = dict.fromkeys(work.tiles, float("inf"))
    for _ in range(4):
        for tile, run in runs.items():
            times[tile] = min(times[tile], watch(run)[0])
    return min(times, key=lambda tile: times[tile])


def race(
    work: Workload,
    model: nn.Module,
    x: Tensor,
    calls: Mapping[str, Call],
    *,
    repeats: int,
    device: str,
) -> Race:
    """Measure the loop and every contestant in turns, and compare their answers.

    Args:
        work: The workload.
        model: Its model, in eval mode.
        x: Its inputs.
        calls: The contestants by name.
        repeats: Turns of each; short calls are measured more often within a turn.
        device: Where it runs.
    """
    watch = _Stopwatch(device)
    live = live_copy(model)
    torch.manual_seed(1)
    loop(live, x, max(2, work.n_samples // 10))
    contestants = {
        name: _Contestant(call, watch, work.n_samples, repeats) for name, call in calls.items()
    }
    loop_seconds: list[float] = []
    reference, passes = Pool(), []
    for _ in range(repeats):
        seconds, (samples, mean, variance) = watch(lambda: _by_loop(live, x, work.n_samples))
        loop_seconds.append(seconds)
        reference.add(mean, variance, work.n_samples)
        passes.append(samples.cpu())
        for contestant in contestants.values():
            contestant.turn()
    kurtosis = kurtosis_of(torch.cat(passes))
    loop_time = median(loop_seconds)
    results = {}
    for name, contestant in contestants.items():
        typical = median(contestant.seconds)
        checked = compared(contestant.pool, reference, kurtosis) if contestant.pool.count else None
        results[name] = Result(typical * 1e3, loop_time / typical, len(contestant.seconds), checked)
    return Race(loop_time * 1e3, results)


def _by_loop(live: nn.Module, x: Tensor, n_samples: int) -> tuple[Tensor, Tensor, Tensor]:
    samples = loop(live, x, n_samples)
    return samples, samples.mean(dim=0), samples.var(dim=0)
