"""The tools of the house: faults that are put in are found, versions that differ are told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mcdrop
from tests.quality.coverage_record import record
from tests.quality.explained import MUTANTS
from tests.quality.mutants import Mutant, mutants_of, mutated, targets
from tests.quality.mutation import _Finder, more_tests, outcome, own_tests
from tests.quality.page import DATA, PAGE, with_figures
from tests.quality.release import ROOT, faults_of_versions, version_of


def test_versions_that_differ_are_told(tmp_path: Path) -> None:
    (tmp_path / "mcdrop").mkdir()
    (tmp_path / "mcdrop" / "__init__.py").write_text('__version__ = "9.9"\n')
    news = "news " * 50
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [9.9] - 2026-01-31\n\n{news}\n")
    (tmp_path / "CITATION.cff").write_text("version: 9.9\ndate-released: 2026-01-31\n")
    assert faults_of_versions(tmp_path) == []
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.0]\n\nNews.\n")
    (tmp_path / "CITATION.cff").write_text("version: 1.0\n")
    assert faults_of_versions(tmp_path) == [
        "CHANGELOG.md begins with 1.0, not 9.9",
        "CHANGELOG.md has no date for 1.0",
        "CHANGELOG.md says hardly anything of 9.9",
        "CITATION.cff does not say `version: 9.9`",
        "CITATION.cff does not say `date-released: `",
    ]
    with pytest.raises(ValueError, match="no __version__"):
        version_of("x = 1")


def test_mutants_differ_from_the_source_in_one_place(tmp_path: Path) -> None:
    source = (
        '"""Text 1."""\n\n__all__ = ["f"]\n\n\ndef f(x: int, y=True):\n    """Add 2."""\n'
        "    if x < 3:\n        raise ValueError(4)\n    return -x + 1.5\n"
    )
    path = ROOT / "tests" / "quality" / "made_for_a_test.py"
    path.write_text(source)
    try:
        found = mutants_of(path)
        assert sorted((each.before, each.after) for each in found) == [
            ("-x", "x"),
            ("-x + 1.5", "-x - 1.5"),
            ("1.5", "2.5"),
            ("3", "4"),
            ("True", "False"),
            ("if x < 3", "if not x < 3"),
            ("x < 3", "x <= 3"),
            ("x < 3", "x > 3"),
        ]
        for each in found:
            space: dict[str, object] = {}
            exec(mutated(each), space)  # noqa: S102
            assert callable(space["f"])
        weaker = next(each for each in found if each.after == "x <= 3")
        space = {}
        exec(mutated(weaker), space)  # noqa: S102
        with pytest.raises(ValueError, match="4"):
            space["f"](3)  # type: ignore[operator]
    finally:
        path.unlink()


def test_the_mutant_is_imported_in_place_of_its_module() -> None:
    name = "mcdrop.metrics._search"
    (mutant, *_) = mutants_of(ROOT / "mcdrop" / "metrics" / "_search.py")
    finder = _Finder(mutant)
    assert finder.find_spec("mcdrop.metrics.crps", None) is None
    spec = finder.find_spec(name, None)
    assert spec.loader is finder.loader
    assert finder.loader.get_code(name).co_filename.endswith("_search.py")


def test_faults_that_read_the_same_are_told_apart() -> None:
    path = ROOT / "mcdrop" / "metrics" / "ood.py"
    names = [str(mutant) for mutant in mutants_of(path)]
    assert len(set(names)) == len(names)
    assert any(name.endswith(" (2)") for name in names)


def test_tests_around_a_file_are_those_of_its_users_and_of_its_names() -> None:
    assert own_tests("mcdrop/metrics/_bins.py") == (
        "tests/metrics/test_bins.py",
        "mcdrop/metrics/_bins.py",
    )
    assert "tests/metrics/test_calibration.py" in more_tests("mcdrop/metrics/_bins.py")
    around = more_tests("mcdrop/metrics/selective.py")
    assert "tests/metrics/test_streaming.py" in around
    assert "tests/metrics/test_selective.py" not in around
    assert all((ROOT / test).exists() for test in around)


def test_no_fork_begins_with_the_package_loaded() -> None:
    # It would not load the mutant, which would pass for one that no test notices.
    assert mcdrop.__version__
    with pytest.raises(RuntimeError, match="outcome: the package is loaded already"):
        outcome(["tests/metrics/test_search.py"], None)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_fault_is_noticed_and_none_is_not() -> None:
    code = (
        "from tests.quality import mutation as m; m._load(); path = 'mcdrop/metrics/_search.py'; "
        "faults = [f for f in m.mutants_of(m.ROOT / path) if f.before == 'low + high']; "
        "print(*[m.outcome(m.own_tests(path), fault) for fault in (None, *faults)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["survived", "killed"]


def test_what_is_explained_has_survived() -> None:
    records = [json.loads(path.read_text()) for path in DATA.glob("mutants*.json")]
    survived = {mutant for record in records for mutant in record["survived"]}
    explained = [mutant for mutants in MUTANTS.values() for mutant in mutants]
    assert len(set(explained)) == len(explained)
    assert set(explained) <= survived


def test_masks_moments_metrics_and_recalibration_are_looked_at() -> None:
    names = {path.name for path in targets()}
    assert {"stratified.py", "moments.py", "crps.py", "temperature.py"} <= names
    assert isinstance(mutants_of(targets()[0])[0], Mutant)


def test_lines_that_do_not_run_are_told_as_ranges() -> None:
    totals = {"num_statements": 100, "covered_lines": 96, "percent_covered": 96.0}
    files = {
        "/x/mcdrop/a.py": {"missing_lines": [3, 7, 8, 9]},
        "/x/mcdrop/b.py": {"missing_lines": []},
    }
    assert record({"totals": totals, "files": files}) == {
        "command": "make coverage",
        "lines": 100,
        "run": 96,
        "percent": 96.0,
        "not run": {"a.py": "3, 7-9"},
    }


def test_figures_on_the_page_are_those_of_the_records() -> None:
    page = PAGE.read_text()
    assert "<!-- figures -->" in page
    assert with_figures(page) == page


def test_hosted_runs_call_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    called: set[str] = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        for line in re.findall(r"make (?:-s )?([a-z -]+)", text):
            called |= set(line.split())
        for group in re.findall(r"(?:target|bound): \[([^]]+)\]", text):
            called |= set(group.split(", "))
    assert {"release-check", "oldest", "newest", "slow", "coverage", "core"} <= called
    assert called <= named
