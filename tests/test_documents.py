"""Every python block of the README and the docs runs, and what it prints is what it says."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.quality.blocks import BLOCK, FRAMEWORKS, run_page

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Needs data sets that do not ship with any package; its parts are tested on their own.
NEEDS_DATA = {"uci_regression.py"}
# Take other options, and have trial runs of their own in test_studies.py.
STUDIES = {"digits.py", "co2_forecast.py", "sentences.py"}
EXAMPLES = [
    p for p in sorted((ROOT / "examples").glob("*.py")) if p.name not in NEEDS_DATA | STUDIES
]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, may_lack=FRAMEWORKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda s: s.name)
def test_example_runs_at_small_size(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [script.name, "--out", str(tmp_path), "--epochs", "1"])
    monkeypatch.setitem(os.environ, "MPLBACKEND", "Agg")
    runpy.run_path(str(script), run_name="__main__")
    assert list(tmp_path.iterdir())
    assert "Report:" in capsys.readouterr().out


def test_readme_session_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    before_code = text.split("```bash")[0]
    words = [word for word in before_code.split() if not word.startswith(("[!", "#"))]
    assert len(words) <= 80
    session = next(block for block in BLOCK.findall(text) if block.startswith(">>>"))
    assert len(session.strip().splitlines()) <= 12


def test_mask_costs_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "mask_costs.json").read_text())
    for step, cost in record["nanoseconds_per_unit"].items():
        assert f"| {step} | {cost:.2f} |" in page


def test_speeds_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "speed_cpu.json").read_text())
    for workload in record["workloads"]:
        kinds = (workload["independent"], workload["shared"])
        ratios = " | ".join(f"{k['ratio']:.2f}x | {k['target']:g}x" for k in kinds)
        limit = f"{workload['loop_ms']:.0f} | {workload['limit']['ratio']:.2f}x"
        assert f"| {workload['text']} | {limit} | {ratios} |" in page
        assert all(kind["agreement"]["holds"] for kind in kinds)


def test_speeds_at_users_sizes_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "user_sizes_cpu.json").read_text())
    calls = ["dense", "of a process"]
    calls += [
        f"{call} {masks}" for masks in ("independent", "shared") for call in ("first", "later")
    ]
    for workload in record["workloads"]:
        ratios = " | ".join(f"{workload['ratios'][call]:.2f}x" for call in calls)
        assert f" | {ratios} |" in page
        assert all(workload["agreement"].values())


def test_the_range_of_speeds_on_the_page_is_that_of_the_records() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    files = sorted((ROOT / "docs" / "data").glob("speed_cpu*.json"))
    runs = [json.loads(file.read_text())["workloads"] for file in files]
    assert all(f"[{file.stem}](data/{file.name})" in page for file in files)
    for several in zip(*runs, strict=True):
        cells = [several[0]["workload"]]
        for kind in ("independent", "shared"):
            ratios = [each[kind]["ratio"] for each in several]
            cells.append(f"{min(ratios):.1f}x to {max(ratios):.1f}x")
        assert f"| {' | '.join(cells)} |" in page


def test_fewer_passes_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "how-many-passes.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "fewer_passes.json").read_text())
    for each in record["results"]:
        ratio, bias = f"{each['error_ratio']:.1f}x", f"{100 * each['std_bias']:+.1f} %"
        scatter = f"{each['std_scatter_ratio']:.2f}"
        row = f"| {each['network']} | {each['p']:g} | {each['n_samples']} | {ratio} | {bias} | "
        assert f"{row}{scatter} |" in page


def test_the_race_and_the_memory_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    race = json.loads((ROOT / "docs" / "data" / "race_cpu.json").read_text())
    for name, report in race["contestants"].items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
        for result in report["workloads"].values():
            right = "error" not in result and result["agreement"]["holds"]
            told = f"{result['ratio']:.2f}x" if right else "wrong" if "ms" in result else "error"
            assert told in line
    memory = json.loads((ROOT / "docs" / "data" / "memory_cpu.json").read_text())
    assert memory["passed"]
    for each in memory["results"]:
        assert (
            f"| {each['n_samples']:,} | {each['over_mib']:.0f} | {each['peak_mib']:.0f} |" in page
        )


def test_the_comparison_on_its_page_is_that_of_the_race() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text()
    race = json.loads((ROOT / "docs" / "data" / "race_cpu.json").read_text())
    assert f"[race_cpu.json](data/race_cpu.json), {race['date']}" in page
    for name, report in race["contestants"].items():
        if name not in ("loop", "replicated batch"):
            told = [
                f"{each['ratio']:.2f}x"
                if "error" not in each and each["agreement"]["holds"]
                else "wrong"
                if "ms" in each
                else "error"
                for each in report["workloads"].values()
            ]
            assert f"| {name} {report['version']} | {' | '.join(told)} |" in page


def test_the_gains_of_optional_paths_on_the_page_are_those_of_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "kernels_cpu.json").read_text())
    for each in record["gains"]:
        numba, columns = each["Numba"], each["dropped weight columns"]
        gains = (numba["independent"], numba["shared"], columns["shared"])
        cells = " | ".join(f"{each['gain']:.2f}x" for each in gains)
        assert f"| {each['workload']} | {cells} |" in page


def test_the_table_of_estimators_on_the_page_is_that_of_the_record() -> None:
    page = (ROOT / "docs" / "estimators.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "tabular.json").read_text())
    for name, each in record["results"].items():
        errors = " | ".join(f"{error:.3g}" for error in each["errors"].values())
        gaps = each["difference"].items()
        better = ", ".join(other for other, gap in gaps if gap["high"] < 0) or "none"
        worse = ", ".join(other for other, gap in gaps if gap["low"] > 0) or "none"
        assert f"| {name} | {each['rows']} | {errors} | {better} | {worse} |" in page


def test_the_cost_of_a_stream_on_the_page_is_that_of_the_record() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "streaming_cpu.json").read_text())
    for each in record["results"]:
        streamed, whole = each["streamed"], each["in_memory"]
        seconds = f"{streamed['seconds']:.0f} s | {whole['seconds']:.0f} s"
        memory = f"{streamed['over_mib']:.0f} MiB | {whole['over_mib']:.0f} MiB"
        assert f"| {each['rows']:,} | {seconds} | {memory} |" in page


def test_the_scaling_over_workers_on_the_page_is_that_of_the_record() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "ray_scaling_cpu.json").read_text())
    one = record["results"][0]["rows_per_second"]
    for each in record["results"]:
        rows, load = each["rows_per_second"], sum(each["load_before"]) / len(each["load_before"])
        assert f" | {rows:,.0f} | {rows / one:.2f} | {load:.0f} |" in page
        assert each["largest_difference"] == 0


def test_the_cost_of_an_export_on_the_page_is_that_of_the_record() -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "export_cpu.json").read_text())
    for each in record["results"]:
        told = (f"{ms:.3g}" if ms < 1000 else f"{ms:,.0f}" for ms in each["ms"].values())
        assert f"| {each['network']} | {each['rows']} | {' | '.join(told)} |" in page
        sizes = " | ".join(f"{size / 1024:.0f}" for size in each["bytes"].values())
        assert f"| {each['network']} | {each['bytes_of_weights'] / 1024:.0f} | {sizes} |" in page
