"""Peak resident memory of a large prediction, for two numbers of passes.

Each number of passes runs in a fresh process. The baseline is what is resident with the model, the
data and all imports in place, after a prediction for a few rows; Linux only, as the peak is read
from `/proc`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import arguments, circumstances, markdown, write
from torch import nn

import mcdrop
from mcdrop._masks import numba_kernels as compiled

_ALLOWED_MIB = 300.0
_ALLOWED_GROWTH = 0.05


def resident(field: str) -> float:
    """Return `VmRSS` (now) or `VmHWM` (peak) of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {field}.")


def network() -> nn.Module:
    """Return the MLP 64-64-64-1 with dropout after each hidden layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1),
    ).eval()  # fmt: skip


def measured(n_rows: int, n_samples: int, masks: Any) -> dict[str, float]:
    """Predict in this process and return its memory in MiB."""
    mc = mcdrop.wrap(network(), masks=masks)
    x = torch.randn(n_rows, 64)
    mc.predict_with_uncertainty(x[:8], n_samples=2, seed=0, task="regression")
    # Few rows do not wait for Numba, which is an import too.
    compiled.prepare(wait=True)
    baseline = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    began = time.perf_counter()
    prediction = mc.predict_with_uncertainty(x, n_samples=n_samples, seed=0, task="regression")
    seconds = time.perf_counter() - began
    return {
        "n_samples": prediction.n_samples,
        "baseline_mib": baseline,
        "peak_mib": resident("VmHWM"),
        "over_mib": resident("VmHWM") - baseline,
        "seconds": seconds,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--samples", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--masks", choices=["independent", "shared"], default="independent")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", type=int, help="measure this number of passes, print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = min(options.rows, 2_000) if options.smoke else options.rows
    if options.child is not None:
        print(json.dumps(measured(rows, options.child, options.masks)))
        return
    results = []
    for n_samples in [10, 20] if options.smoke else options.samples:
        command = [sys.executable, __file__, "--child", str(n_samples), "--rows", str(rows)]
        command += ["--masks", options.masks, "--threads", str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        results.append(json.loads(done.stdout))
    few, many = results
    growth = many["peak_mib"] / few["peak_mib"] - 1
    passed = many["over_mib"] <= _ALLOWED_MIB and abs(growth) <= _ALLOWED_GROWTH
    columns = ["n_samples", "baseline_mib", "peak_mib", "over_mib", "seconds"]
    lines = [[f"{result[column]:,.0f}" for column in columns] for result in results]
    print(markdown(["S", "baseline MiB", "peak MiB", "over MiB", "seconds"], lines))
    print(f"\ngrowth of the peak {growth:+.1%}: {'pass' if passed else 'FAIL'}")
    content = {"rows": rows, "masks": options.masks, "results": results, "growth": growth}
    write(options.json, {**circumstances(options.date), **content, "passed": passed})


if __name__ == "__main__":
    main()
