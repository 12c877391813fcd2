"""The command line of a study, the record of its numbers, and errors over seeds."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.style import context

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("benchmarks", "gallery")]
from gallery import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, STYLE, digits, label, panels, train
from record import circumstances

__all__ = [
    "BLUE", "GREEN", "GREY", "INK", "LIGHT", "ORANGE", "Content", "digits", "label", "main",
    "mean_and_error", "panels", "rounded", "train",
]  # fmt: skip

# Settings and numbers of one run, as the JSON has them.
Content = dict[str, Any]


def main(
    measure: Callable[[bool], Content],
    draw: Callable[[Content], Figure],
    told: Callable[[Content], Sequence[str]],
    doc: str | None,
) -> None:
    """Make the run, print what was found, write picture and record.

    Args:
        measure: Makes the run, a tiny one if told so, and returns its numbers.
        draw: Makes the picture of the numbers.
        told: Says in lines what was found.
        doc: Description for the command line.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the picture")
    parser.add_argument("--date", help="date to record (default: today)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the script out")
    parser.add_argument("--redraw", type=Path, help="only draw the numbers of this file again")
    options = parser.parse_args()
    content = json.loads(options.redraw.read_text()) if options.redraw else None
    if content is None:
        torch.set_num_threads(1)
        began = time.process_time()
        content = measure(options.smoke)
        content["cpu_seconds"] = round(time.process_time() - began)
    picture = options.out / f"{name}.png"
    with context(["default", STYLE]):
        draw(content).savefig(picture, dpi=120)
    if options.json:
        _write(options.json, {**_circumstances(options.date), **content})
    print("\n".join([*told(content), f"Report: {picture.resolve()}"]))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and its standard error, 0 for a single seed."""
    n = len(values)
    return float(np.mean(values)), float(np.std(values, ddof=1) / n**0.5) if n > 1 else 0.0


def rounded(value: Any, digits: int = 5) -> Any:
    """Round every number in nested lists and dicts."""
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return round(float(value), digits) if isinstance(value, float | np.floating) else value


def _circumstances(date: str | None) -> Content:
    """Return where and how the numbers were made."""
    found = circumstances(date, folder="examples")
    found["versions"] |= {name: version(name) for name in ("scikit-learn", "scipy")}
    return found


def _write(path: Path, content: Content) -> None:
    """Write the record, one line for each of its parts."""
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
