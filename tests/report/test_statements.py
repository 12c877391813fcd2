"""What a report states of calibrated predictions is false no more often than it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
RECORDED = Path(__file__).parents[2] / "docs" / "data" / "statements_report.json"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("statements_report")


@pytest.mark.slow
def test_the_script_runs_at_tiny_size_and_writes_its_record(tmp_path: Path) -> None:
    out = tmp_path / "statements.json"
    command = [sys.executable, str(FOLDER / "statements_report.py"), "--smoke", "--json", str(out)]
    done = subprocess.run(
        [*command, "--date", "2026-01-01"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert content["command"].startswith("python examples/benchmarks/statements_report.py --smoke")
    assert "| A report finds a fault in a calibrated regression" in done.stdout
    for each in content["statements"]:
        assert set(each) == {"statement", "n", "nominal", "simulated", "se", "repetitions"}


def test_recorded_rates_keep_what_is_stated() -> None:
    for each in json.loads(RECORDED.read_text())["statements"]:
        assert each["repetitions"] >= 1000
        if each["nominal"] < 0.5:
            assert each["simulated"] <= each["nominal"] + 2 * each["se"], each["statement"]
        else:
            assert each["simulated"] >= each["nominal"] - 2 * each["se"], each["statement"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20, 50, 200, 1000])
@pytest.mark.parametrize(
    "kind",
    ["regression", "comparison", "moderate (74 %)", "confident (93 %)", "almost certain (99 %)"],
)
def test_false_alarms_stay_at_the_level(script: Any, kind: str, n: int) -> None:
    alarm: Callable[[int, int], bool]
    if kind == "regression":
        alarm = script.regression_alarm
    elif kind == "comparison":
        alarm = script.comparison_alarm
    else:
        alarm = partial(script.classification_alarm, scale=script.SHARPNESS[kind])
    # Other seeds than those of the record.
    found = sum(alarm(n, 10_000 + seed) for seed in range(400)) / 400
    # Three binomial standard errors: 25 cases are looked at.
    assert found <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 500])
def test_the_interval_of_the_ece_holds_zero(script: Any, n: int) -> None:
    found = sum(script.ece_interval_holds(n, 10_000 + seed) for seed in range(400)) / 400
    assert found >= 0.95 - 2 * (0.05 * 0.95 / 400) ** 0.5
