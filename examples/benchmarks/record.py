"""The record that goes with every set of numbers: command, date, versions and hardware."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["arguments", "circumstances", "markdown", "write"]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that the scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--date", help="date to record (default: today)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the script out")
    return parser


def circumstances(
    date: str | None, device: str = "cpu", folder: str = "examples/benchmarks"
) -> dict[str, Any]:
    """Return where, when and how the numbers were made, without any path of the machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return {
        "command": " ".join(["python", f"{folder}/{Path(sys.argv[0]).name}", *words]),
        "date": date or datetime.date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "mcdrop": _version("mcdrop"),
            "numba": _version("numba"),
        },
        "hardware": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        },
    }


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Write the numbers, if a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _version(package: str) -> str | None:
    """Return the version of a package, or None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
