"""All that is measured on a CUDA device, step by step: tests, speed, race, memory, accuracy.

Each step is a process of its own with eight minutes at most; a step that fails or takes longer is
written down as such, and the next one runs. The numbers go to one file per step and the outcomes,
with the name of the hardware, to `gpu.json`. Without a CUDA device nothing is run. Run it with
`make gpu`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from record import arguments, circumstances, write

ROOT = Path(__file__).parent.parent.parent
LIMIT = 480
# Without these there is nothing to race against; other libraries need interpreters of their own.
RIVALS = ("loop", "replicated batch", "mcdrop", "mcdrop shared")


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: Short name, and the middle of the name of its file.
        command: Arguments of Python; the path of its numbers is added, if it has any.
        has_numbers: Whether it writes numbers.
    """

    name: str
    command: tuple[str, ...]
    has_numbers: bool = True


def steps(device: str, *, smoke: bool) -> list[Step]:
    """Return what is run, in order."""
    small = ("--smoke",) if smoke else ()

    def script(name: str, *options: str) -> tuple[str, ...]:
        return (f"examples/benchmarks/{name}", "--device", device, *options, *small)

    contestants = tuple(word for name in RIVALS for word in ("--contestant", name))
    return [
        Step("tests", ("-m", "pytest", "-q", "-m", "gpu", "tests"), has_numbers=False),
        Step("speed", script("speed.py", "--repeats", "5")),
        Step("race", script("compare.py", "--repeats", "3", *contestants)),
        Step("memory", script("device_memory.py")),
        Step("time_to_accuracy", script("time_to_accuracy.py", "--rate", "0.3")),
    ]


def outcome(step: Step, folder: Path, limit: float) -> dict[str, Any]:
    """Run one step; return how it ended."""
    command = [sys.executable, *step.command]
    if step.has_numbers:
        command += ["--json", str(folder / f"{step.name}_cuda.json")]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=limit, check=False)  # noqa: S603
        ended = "passed" if done.returncode == 0 else f"failed with status {done.returncode}"
    except subprocess.TimeoutExpired:
        ended = f"stopped after {limit:g} s"
    return {"step": step.name, "outcome": ended, "seconds": time.perf_counter() - began}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "data")
    parser.add_argument("--step", action="append", help="run this step only; may be repeated")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds per step")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("No CUDA device was found, so nothing was run and nothing was measured.")
    found = []
    for step in steps(options.device, smoke=options.smoke):
        if options.step is None or step.name in options.step:
            found.append(outcome(step, options.folder, options.limit))
            print(f"{step.name}: {found[-1]['outcome']}", flush=True)
            record = circumstances(options.date, options.device)
            # Written as it grows: the machine may be taken away.
            write(options.json or options.folder / "gpu.json", {**record, "steps": found})
    if any(each["outcome"] != "passed" for each in found):
        raise SystemExit("Not every step passed.")


if __name__ == "__main__":
    main()
