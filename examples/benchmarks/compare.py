"""The race: the loop, a replicated batch, three other libraries and mcdrop on the same workloads.

Every contestant runs in a process of its own against the loop, interleaved with it, so that its
ratio does not depend on what else the machine did meanwhile; every answer is compared with the
loop's within Monte Carlo error. Libraries whose requirements clash get environments of their own:
`--env baal=envs/baal/bin/python`. Those without one, or that do not import there, are reported as
absent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from contestants import CONTESTANTS, LIBRARIES
from record import arguments, circumstances, markdown, write
from workloads import chosen

_RIVALS = [name for name, library in LIBRARIES.items() if library != "mcdrop"]


def interpreters(given: list[str]) -> dict[str, str]:
    """Return the interpreter of every contestant that has one."""
    found = {name: sys.executable for name in CONTESTANTS if name not in _RIVALS}
    for pair in given:
        name, _, python = pair.partition("=")
        if name not in _RIVALS or not python:
            raise SystemExit(f"--env: expected NAME=PYTHON with a name of {_RIVALS}, got {pair!r}.")
        found[name] = python
    return found


def raced(name: str, python: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one contestant in its environment and return its report."""
    command = [python, str(Path(__file__).with_name("rival.py")), "--name", name]
    command += ["--device", options.device, "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats), *["--smoke"][: options.smoke]]
    for workload in options.workload or []:
        command += ["--workload", workload]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        return {"absent": f"{type(error).__name__}: its interpreter does not start"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"absent": f"stopped: {lines[-1][:200]}"}
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def cell(result: dict[str, Any]) -> str:
    """Return one cell of the table."""
    if "error" in result:
        return "error"
    if not result["agreement"]["holds"]:
        ratio = result["agreement"]["std_ratio"]
        return f"wrong (std {ratio:.2f} of the loop's)"
    return f"{result['ratio']:.2f}x"


def table(reports: dict[str, dict[str, Any]], workloads: list[str]) -> str:
    """Return the race as a Markdown table: how many times faster than the loop."""
    rows = []
    for name, report in reports.items():
        if "absent" in report:
            rows.append([name, "absent", *["-"] * len(workloads)])
            continue
        results = [cell(report["workloads"][work]) for work in workloads]
        rows.append([name, report["version"] or "", *results])
    return markdown(["", "version", *workloads], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workload", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    works = chosen(options.workload, options.device, smoke=options.smoke)
    pythons = interpreters(options.env)
    reports: dict[str, dict[str, Any]] = {}
    for name in options.contestant or CONTESTANTS:
        if name in pythons:
            reports[name] = raced(name, pythons[name], options)
        else:
            reports[name] = {"absent": "no interpreter given"}
        print(f"{name}: {reports[name].get('absent', 'done')}", flush=True)
    record = circumstances(options.date, options.device)
    print(f"\n{record['hardware']}\n\n{table(reports, [work.name for work in works])}")
    write(options.json, {**record, "repeats": options.repeats, "contestants": reports})


if __name__ == "__main__":
    main()
