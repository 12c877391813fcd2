"""The way over a device, rehearsed on one that is pretended: nothing here needs a GPU.

It shows tensors and generators on the wrong device, and counts what is launched and waited for. It
shows neither speed nor rounding, nor what CUDA lacks; those need the tests marked gpu.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="patches libc10 of a Linux build")

# Kinds whose every combination of masks runs in the slow suite.
QUICK = (
    "mlp-independent-strata", "mlp-shared-plain", "lstm-independent-strata",
    "no-tensors-independent-plain", "branches-shared-strata", "mlp-exact_last", "mlp-auto",
    "mlp-device", "mlp-keep_samples", "mlp-few", "cnn-classes", "wide", "speed-mlp-p0.1",
    "speed-uci",
)  # fmt: skip
# Launches of a later prediction of 64 rows, S = 100; a few more than were counted.
MOST_LAUNCHES = {"mlp-p0.1": 40, "uci": 30, "lstm": 160, "residual": 70, "transformer": 120}
# Without a host that accumulates, the moments are about a hundred launches.
MOST_OF_WIDE_OUTPUTS = 130


@cache
def rehearsed(names: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], str]:
    command = [sys.executable, "-m", "tests.rehearsal", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {} if done.returncode else dict(json.loads(done.stdout)), done.stderr[-3000:]


def check(name: str, found: dict[str, Any]) -> None:
    assert found["strategy"] == ("sequential" if "branches" in name else "vectorized")
    # The largest of at most 96 normal deviations of correlated entries.
    assert found["z"] < 5, found
    assert found["stray"] == 0, "a result lies on the CPU"
    assert found["asked_for_kernels"]


@pytest.mark.parametrize("name", QUICK)
def test_a_device_gives_what_the_cpu_gives(name: str) -> None:
    found, errors = rehearsed(QUICK)
    assert name in found, errors
    check(name, found[name])


def check_costs(name: str, found: dict[str, Any]) -> None:
    most = MOST_LAUNCHES[name.removeprefix("speed-")]
    assert found["launches"] <= most, found
    assert found["syncs"] == 1, "the passes are fetched once"
    assert found["uploads"] == 1, "the result is sent once, and constants are kept"


@pytest.mark.parametrize("name", [name for name in QUICK if name.startswith("speed")])
def test_launches_and_waits_of_a_prediction_are_few(name: str) -> None:
    found, errors = rehearsed(QUICK)
    assert name in found, errors
    check_costs(name, found[name])


def test_large_outputs_are_accumulated_on_the_device() -> None:
    found, errors = rehearsed(QUICK)
    assert "wide" in found, errors
    assert found["wide"]["launches"] <= MOST_OF_WIDE_OUTPUTS, found["wide"]
    assert found["wide"]["syncs"] <= 2
    assert found["wide"]["uploads"] == 0


@pytest.mark.slow
def test_launches_and_waits_are_few_for_larger_networks() -> None:
    names = tuple(f"speed-{name}" for name in ("lstm", "residual", "transformer"))
    all_found, errors = rehearsed(names)
    assert len(all_found) == len(names), errors
    for name, found in all_found.items():
        check(name, found)
        check_costs(name, found)


@pytest.mark.slow
def test_every_model_and_kind_of_masks_runs_on_a_device() -> None:
    from tests.rehearsal import CASES

    all_found, errors = rehearsed(tuple(CASES))
    assert len(all_found) == len(CASES), errors
    for name, found in all_found.items():
        check(name, found)
