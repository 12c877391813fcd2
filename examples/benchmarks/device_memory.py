"""Peak memory of a large prediction on a device, for two numbers of passes.

The peak is what torch's allocator held at most beyond model and data. It should not grow with the
number of passes. Run it with `python examples/benchmarks/device_memory.py --device cuda`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from memory import network
from record import arguments, circumstances, markdown, write

import mcdrop

_ALLOWED_GROWTH = 0.05


def measured(n_rows: int, n_samples: int, device: str) -> dict[str, float]:
    """Predict and return what the allocator held, in MiB; 0 on a CPU, where it does not count."""
    mc, x = mcdrop.wrap(network().to(device)), torch.randn(n_rows, 64).to(device)
    options: dict[str, Any] = {"seed": 0, "task": "regression"}
    mc.predict_with_uncertainty(x[:8], n_samples=2, **options)
    counts = x.is_cuda
    if counts:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if counts else 0
    began = time.perf_counter()
    prediction = mc.predict_with_uncertainty(x, n_samples=n_samples, **options)
    if counts:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() - before if counts else 0
    return {"n_samples": prediction.n_samples, "over_mib": peak / 2**20, "seconds": seconds}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    rows = min(options.rows, 2_000) if options.smoke else options.rows
    samples = [16, 32] if options.smoke else [100, 1000]
    results = [measured(rows, n_samples, options.device) for n_samples in samples]
    few, many = (each["over_mib"] for each in results)
    growth = many / few - 1 if few else 0.0
    lines = [[f"{value:,.1f}" for value in each.values()] for each in results]
    print(markdown(["S", "over MiB", "seconds"], lines))
    passed = growth <= _ALLOWED_GROWTH
    print(f"\ngrowth of the peak {growth:+.1%}: {'pass' if passed else 'FAIL'}")
    content = {"rows": rows, "results": results, "growth": growth, "passed": passed}
    write(options.json, {**circumstances(options.date, options.device), **content})


if __name__ == "__main__":
    main()
