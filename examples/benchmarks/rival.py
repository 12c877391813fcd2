"""One contestant of the race in its own process; started by compare.py in its own environment."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import warnings
from typing import Any

import torch
from contestants import CONTESTANTS, LIBRARIES, version_of
from racing import race
from workloads import Workload, chosen


def measured(name: str, work: Workload, device: str, repeats: int) -> dict[str, Any]:
    """Race one contestant against the loop; of its variants, the fastest right one counts."""
    model, x = work.make(device)
    calls = CONTESTANTS[name](model, x, work.n_samples)
    result = race(work, model, x, calls, repeats=repeats, device=device)
    variants = {variant: each.to_dict() for variant, each in result.results.items()}
    best = max(
        variants, key=lambda key: (variants[key]["agreement"]["holds"], variants[key]["ratio"])
    )
    return {**variants[best], "variant": best, "loop_ms": result.loop_ms}


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Return the contestant's results by workload, or why there are none."""
    try:
        if options.name in LIBRARIES:
            importlib.import_module(LIBRARIES[options.name].replace("-", "_"))
        version = version_of(options.name)
    except (ImportError, RuntimeError, OSError) as error:
        return {"absent": f"not importable: {_one_line(error)}"}
    results: dict[str, Any] = {}
    for work in chosen(options.workload, options.device, smoke=options.smoke):
        try:
            results[work.name] = measured(options.name, work, options.device, options.repeats)
        except Exception as error:  # whatever a library raises is its result
            results[work.name] = {"error": _one_line(error)}
    return {"version": version, "torch": torch.__version__, "workloads": results}


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", choices=list(CONTESTANTS), required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workload", action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # Libraries print to standard output; the last line has to be the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = report(options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
