"""Runs the comparison in pieces: models that the table lacks, as many as the budget allows.

`python -m tests.zoo_packages.run --minutes 25` goes on where the last run stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import subprocess
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = ["main"]

TABLE = Path(__file__).parents[2] / "docs" / "data" / "zoo.json"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "torch-geometric",
    "x-transformers",
    "monai",
    "sentence-transformers",
    "diffusers",
    "timm",
    "fastai",
)


def names() -> list[tuple[str, str]]:
    """Return all models, as (package, name), other packages first."""
    from tests.zoo_packages.hugging_face import architectures
    from tests.zoo_packages.others import MODELS, declare_kernels

    declare_kernels()
    return [*MODELS, *(("transformers", name) for name in architectures())]


def row(package: str, name: str) -> dict[str, Any]:
    """Build one model and compare it; runs in a process of its own."""
    from tests.zoo_packages.comparison import Row, compare
    from tests.zoo_packages.hugging_face import built
    from tests.zoo_packages.others import MODELS, declare_kernels

    declare_kernels()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        if package == "transformers":
            return compare(package, name, *built(name)).to_dict()
        model, inputs = MODELS[package, name]()
    except (ValueError, ImportError) as error:
        return Row(package, name, "not built", reason=" ".join(str(error).split())[:300]).to_dict()
    return compare(package, name, model.eval(), inputs).to_dict()


def main() -> None:
    """Run, and write the table after each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one model")
    parser.add_argument("--only", default="", help="part of the names to run again")
    parser.add_argument("--again", action="store_true", help="models without a clear outcome")
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    everything = names()
    rows = _known(options.table)
    todo = [key for key in everything if key not in rows]
    if options.again:
        todo = [key for key in everything if _is_open(rows.get(key))]
    if options.only:
        todo = [key for key in everything if options.only in "/".join(key)]
    stop = time.monotonic() + 60 * options.minutes
    pool = _pool()
    for key in todo:
        if time.monotonic() > stop:
            break
        known = rows.get(key, {}).get("outcome") == "agrees"
        try:
            rows[key] = pool.submit(row, *key).result(timeout=options.limit)
        except TookTooLong:
            pool = _renewed(pool)
            if known:  # more passes were not affordable
                continue
            rows[key] = _failed(key, "too slow", f"more than {options.limit:.0f} seconds")
        except BrokenProcessPool:
            rows[key] = _failed(key, "died", "the process ended")
            pool = _renewed(pool)
        except Exception as error:  # noqa: BLE001, RUF100  # one model may not end the run
            rows[key] = _failed(key, "crash", f"{type(error).__name__}: {error}"[:300])
        print(" ".join(map(str, rows[key].values())), flush=True)  # noqa: T201
        _write(options.table, rows, everything)
    pool.shutdown(wait=False, cancel_futures=True)


def _is_open(row: dict[str, Any] | None) -> bool:
    """Whether a model has no row yet, or one that another run could change."""
    if row is None:
        return True
    return row["outcome"] not in ("agrees", "no dropout") or row.get("ratio_error", 0) > 0.05


def _failed(key: tuple[str, str], outcome: str, reason: str) -> dict[str, Any]:
    return {"package": key[0], "name": key[1], "outcome": outcome, "reason": reason}


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _renewed(pool: ProcessPoolExecutor) -> ProcessPoolExecutor:
    for process in pool._processes.values():
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
    return _pool()


def _known(table: Path) -> dict[tuple[str, str], dict[str, Any]]:
    if not table.exists():
        return {}
    return {(x["package"], x["name"]): x for x in json.loads(table.read_text())["rows"]}


def _write(
    table: Path, rows: dict[tuple[str, str], dict[str, Any]], everything: list[tuple[str, str]]
) -> None:
    """Write the table, one model a line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    head = {
        "command": "make zoo",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "hardware": f"one core, {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "not_run": ["/".join(key) for key in everything if key not in rows],
    }
    lines = [json.dumps(rows[key]) for key in everything if key in rows]
    text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    table.write_text(text)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
