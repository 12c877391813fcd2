"""What one unit of a mask costs on the CPU, step by step: why the kernels of masks are as they are.

python examples/benchmarks/mask_costs.py --json docs/data/mask_costs.json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from mcdrop._masks.numba_kernels import load
from mcdrop._masks.stratified import STRATUM


def nanoseconds(step: Callable[[], object], n: int, repeats: int) -> float:
    """Median time of one element."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return round(sorted(times)[repeats // 2] / n * 1e9, 3)


def steps(n: int) -> dict[str, Callable[[], object]]:
    """Every way that was tried to draw a mask of n units and apply it."""
    generator = torch.Generator().manual_seed(0)
    bits = np.random.SFC64(0)
    x, out = torch.randn(n, generator=generator), torch.empty(n)
    lanes = torch.from_numpy(bits.random_raw(n // 4).view(np.int16))
    words, keep = torch.empty(n // 4, dtype=torch.int64), lanes >= -26000
    flags, values, result = keep.numpy(), x.numpy(), out.numpy()
    return {
        "torch dropout": lambda: F.dropout(x, 0.1, True),
        "torch random_, 16 bits": lambda: words.random_(-(2**63), None, generator=generator),
        "NumPy SFC64, 16 bits": lambda: bits.random_raw(n // 4),
        "NumPy Philox, 16 bits": lambda: np.random.Philox(0).random_raw(n // 4),
        "compare, torch": lambda: torch.ge(lanes, -26000, out=keep),
        "compare, NumPy": lambda: np.greater_equal(lanes.numpy(), -26000, out=flags),
        "where of a new product": lambda: torch.where(keep, x * 1.1, 0),
        "multiply, torch": lambda: torch.mul(x, keep, out=out),
        "multiply, NumPy": lambda: np.multiply(values, flags, out=result),
        "scale in place": lambda: out.mul_(1.0),
        **_compiled_steps(lanes.numpy(), values, result),
    }


def _compiled_steps(
    lanes: npt.NDArray[np.int16], x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> dict[str, Callable[[], object]]:
    """The kernels that Numba compiles, on 16 passes of one stratum."""
    kernels = load()
    if kernels is None:
        return {}
    drawn = lanes.reshape(STRATUM, -1)
    values, result = x.reshape(STRATUM, -1), out.reshape(STRATUM, -1)
    scale = np.float32(1.1)
    return {
        "compiled: compare, multiply, scale": lambda: kernels.drop_by_lane(
            values, drawn, -26000, scale, result
        ),
        "compiled: unpack, multiply, scale": lambda: kernels.drop_by_pattern(
            values, drawn[:1], 0, scale, result
        ),
    }


def main() -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2**20)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    costs = {
        name: nanoseconds(step, options.units, options.repeats)
        for name, step in steps(options.units).items()
    }
    for name, cost in costs.items():
        print(f"{name:36} {cost:6.2f} ns")
    if options.json:
        record = {
            "command": "python examples/benchmarks/mask_costs.py --json docs/data/mask_costs.json",
            "date": time.strftime("%Y-%m-%d"),
            "units": options.units,
            "threads": 1,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "nanoseconds_per_unit": costs,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
