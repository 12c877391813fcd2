"""Which lines of the package no test runs: the record that is committed.

python -m tests.quality.coverage_record build/coverage.json
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

__all__ = ["record"]

RECORD = Path(__file__).parents[2] / "docs" / "data" / "coverage.json"


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Return the share of lines that run, and by file those that do not."""
    totals = found["totals"]
    return {
        "command": "make coverage",
        "lines": totals["num_statements"],
        "run": totals["covered_lines"],
        "percent": round(totals["percent_covered"], 2),
        "not run": {
            name.partition("mcdrop/")[2]: _ranges(each["missing_lines"])
            for name, each in sorted(found["files"].items())
            if each["missing_lines"]
        },
    }


def _ranges(lines: list[int]) -> str:
    """Return line numbers as text, "3, 7-9"."""
    parts = []
    for _, group in groupby(enumerate(sorted(lines)), key=lambda each: each[1] - each[0]):
        run = [line for _, line in group]
        parts.append(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}")
    return ", ".join(parts)


if __name__ == "__main__":
    RECORD.write_text(
        json.dumps(record(json.loads(Path(sys.argv[1]).read_text())), indent=2) + "\n"
    )
