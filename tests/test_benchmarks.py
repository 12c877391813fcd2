"""The benchmark scripts run, at tiny size; what they say about speed there means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"


def run(script: str, tmp_path: Path, *options: str) -> tuple[str, dict[str, Any]]:
    out = tmp_path / "numbers.json"
    command = [sys.executable, str(FOLDER / script), "--smoke", "--threads", "1", *options]
    command += ["--json", str(out), "--date", "2026-01-01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(out.read_text())
    assert content["date"] == "2026-01-01"
    assert content["command"].startswith(f"python examples/benchmarks/{script} --smoke")
    assert str(tmp_path) not in out.read_text()
    assert set(content["hardware"]) == {"cpu", "cores", "torch_threads", "device"}
    return done.stdout, content


def test_speed_measures_and_checks_every_workload(tmp_path: Path) -> None:
    text, content = run("speed.py", tmp_path, "--repeats", "2")
    names = [each["workload"] for each in content["workloads"]]
    assert names == ["cnn-head", "mlp-p0.1", "mlp-p0.5", "uci", "lstm", "transformer", "residual"]
    for each in content["workloads"]:
        assert each["limit"]["ratio"] > 0
        assert each["independent"]["agreement"]["holds"]
        assert each["shared"]["agreement"]["holds"]
        assert f"| {each['workload']}" in text


def test_race_reports_the_absent_as_absent(tmp_path: Path) -> None:
    text, content = run(
        "compare.py", tmp_path, "--repeats", "2", "--workload", "uci", "--env", "baal=nowhere"
    )
    reports = content["contestants"]
    assert reports["torch-uncertainty"] == {"absent": "no interpreter given"}
    assert "does not start" in reports["baal"]["absent"]
    for name in ("loop", "replicated batch", "mcdrop", "mcdrop shared"):
        assert reports[name]["workloads"]["uci"]["agreement"]["holds"], name
    assert "absent" in text


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_memory_is_measured_over_its_baseline(tmp_path: Path) -> None:
    text, content = run("memory.py", tmp_path)
    assert [result["n_samples"] for result in content["results"]] == [10, 20]
    assert all(result["over_mib"] >= 0 for result in content["results"])
    assert "growth of the peak" in text


def test_unknown_workload_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "speed.py"), "--workload", "guess"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "expected one of ['cnn-head'" in done.stderr


def test_agreement_tells_a_right_answer_from_a_wrong_one() -> None:
    code = """
import torch
from agreement import Pool, compared, kurtosis_of

torch.manual_seed(0)
reference, right, wide, shifted = Pool(), Pool(), Pool(), Pool()
samples = torch.randn(500, 40, 1)
def add(pool, draws):
    for part in draws.split(100):
        pool.add(part.mean(0), part.var(0), 100)
add(reference, samples)
add(right, torch.randn(500, 40, 1))
add(wide, torch.randn(500, 40, 1) * 2)
add(shifted, torch.randn(500, 40, 1) + 1)
mean, variance = reference.moments()
assert torch.allclose(mean, samples.mean(0).double(), atol=1e-6)
assert torch.allclose(variance, samples.var(0).double(), rtol=1e-5)
kurtosis = kurtosis_of(samples)
assert compared(right, reference, kurtosis).holds
assert not compared(wide, reference, kurtosis).holds
assert not compared(shifted, reference, kurtosis).holds
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
