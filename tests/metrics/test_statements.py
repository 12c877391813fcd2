"""What tests and intervals state holds in simulation, at small and large samples."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "statements_metrics.py"


def _script() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("statements_metrics", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


SIMULATION: Any = _script()


@pytest.mark.slow
def test_script_writes_a_rate_for_every_statement(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    command = [sys.executable, str(SCRIPT), "--smoke", "--json", str(out), "--date", "2026-01-01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    rates = content["statements"]
    assert {one["statement"] for one in rates} == {one.text for one in SIMULATION.statements()}
    assert set(rates[0]) == {"statement", "n", "nominal", "simulated", "se", "repetitions"}
    assert content["command"].startswith("python examples/benchmarks/statements_metrics.py --smoke")


@pytest.mark.slow
@pytest.mark.parametrize("statement", SIMULATION.statements(), ids=lambda one: one.text)
def test_statement_holds_at_every_sample_size(statement: Any) -> None:
    for n in statement.sizes:
        found = SIMULATION.rate(statement, n, 200 if n > 200 else 400, seed=1)
        assert SIMULATION.holds(statement, found), found
