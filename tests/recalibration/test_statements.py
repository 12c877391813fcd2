"""What the recalibrations state, simulated, and the record of a long run of the same simulation."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    return importlib.import_module("statements_recalibration")


def test_every_statement_holds_in_the_record(script: Any) -> None:
    found = json.loads((ROOT / "docs" / "data" / "statements_recalibration.json").read_text())
    statements = [script.Statement(**each) for each in found["statements"]]
    assert len(statements) == 49
    assert [each.statement for each in statements if not each.holds(3.5)] == []
    assert min(each.repetitions for each in statements) >= 100


@pytest.mark.slow
def test_every_statement_holds_when_simulated_again(script: Any) -> None:
    for each in script.statements(0.2):
        assert each.holds(4.5), each


def test_a_statement_that_does_not_hold_is_told(script: Any) -> None:
    def made(relation: str, simulated: float) -> Any:
        return script.Statement("", 1, relation, 0.9, simulated, 0.01, 100)

    assert made("equal to", 0.93).holds()
    assert not made("equal to", 0.95).holds()
    assert not made("equal to", 0.85).holds()
    assert made("at least", 0.99).holds()
    assert not made("at least", 0.85).holds()
    assert made("at most", 0.5).holds()
    assert not made("at most", 0.95).holds()


def test_the_table_on_the_page_is_that_of_the_record() -> None:
    record = json.loads((ROOT / "docs" / "data" / "statements_recalibration.json").read_text())
    rows = {
        f"| {each['statement']} | {each['n']} | {each['relation']} {each['nominal']:.4f} | "
        f"{each['simulated']:.4f} ± {each['se']:.4f} |"
        for each in record["statements"]
    }
    section = (ROOT / "docs" / "recalibration.md").read_text().split("## Stated and simulated")[1]
    lines = section.split("## Sources")[0].splitlines()
    table = [line for line in lines if line.startswith("| ") and "| n | stated |" not in line]
    assert len(table) > 10
    assert set(table) <= rows


@pytest.mark.slow
def test_the_script_writes_its_record(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    options = ["--smoke", "--json", str(out), "--date", "2026-01-01"]
    monkeypatch.setattr("sys.argv", ["statements_recalibration.py", *options])
    script.main()
    content = json.loads(out.read_text())
    assert content["date"] == "2026-01-01"
    assert len(content["statements"]) == 49
    assert "statements hold within 4 standard errors." in capsys.readouterr().out
