"""What optional fast paths bring: Numba's kernels, and weight columns dropped in place of units.

Each workload is predicted with a path switched on and off by turns, in one process; the ratio of
the two is free of most noise of the machine. Predictions agree to the last digit with and without
Numba. Run it with `python examples/benchmarks/kernels.py --json docs/data/kernels_cpu.json`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from record import arguments, circumstances, markdown, write
from torch import Tensor, nn
from workloads import Workload, chosen

import mcdrop
from mcdrop._fusion import shared_masks
from mcdrop._masks import numba_kernels


@contextmanager
def without_numba() -> Iterator[None]:
    """Let NumPy do everything."""
    least = numba_kernels._LEAST
    numba_kernels._LEAST = 2**62
    try:
        yield
    finally:
        numba_kernels._LEAST = least


@contextmanager
def without_dropped_weights() -> Iterator[None]:
    """Drop units of the values where columns of the weight would be dropped."""
    way = shared_masks._drop_weights
    shared_masks._drop_weights = shared_masks._drop_values
    try:
        yield
    finally:
        shared_masks._drop_weights = way


PATHS = {
    "Numba": (without_numba, ("independent", "shared")),
    "dropped weight columns": (without_dropped_weights, ("shared",)),
}


def paired(on: Callable[[], Any], off: Callable[[], Any], repeats: int) -> list[float]:
    """Return the time without a path over the time with it, once per turn."""
    ratios = []
    for turn in range(repeats):
        took = {}
        for name in ("on", "off") if turn % 2 else ("off", "on"):
            began = time.perf_counter()
            (on if name == "on" else off)()
            took[name] = time.perf_counter() - began
        ratios.append(took["off"] / took["on"])
    return ratios


def gain(work: Workload, model: nn.Module, x: Tensor, path: str, repeats: int) -> dict[str, Any]:
    """Measure one path on one workload, for each kind of masks that it serves."""
    without, kinds = PATHS[path]
    found: dict[str, Any] = {}
    for masks in kinds:
        mc = mcdrop.wrap(model, masks=masks)  # type: ignore[arg-type]

        def on(mc: mcdrop.MCDropout = mc) -> None:
            mc.predict_with_uncertainty(x, n_samples=work.n_samples, seed=0, task="regression")

        def off(on: Callable[[], None] = on) -> None:
            with without():
                on()

        on()
        off()
        ratios = sorted(paired(on, off, repeats))
        found[masks] = {
            "gain": statistics.median(ratios),
            "lower_quartile": ratios[len(ratios) // 4],
            "upper_quartile": ratios[-1 - len(ratios) // 4],
        }
    return found


def main() -> None:
    """Measure, print a table, and write JSON if asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--workload", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    repeats = 2 if options.smoke else options.repeats
    numba_kernels.prepare(wait=True)
    entries, rows = [], []
    for work in chosen(options.workload, "cpu", smoke=options.smoke):
        model, x = work.make("cpu")
        each = {path: gain(work, model, x, path, repeats) for path in PATHS}
        entries.append({"workload": work.name, **each})
        for path, kinds in each.items():
            for masks, measured in kinds.items():
                span = f"{measured['lower_quartile']:.2f} to {measured['upper_quartile']:.2f}"
                rows.append([work.name, path, masks, f"{measured['gain']:.2f}x", span])
    print(markdown(["workload", "path", "masks", "gain", "quartiles"], rows))
    write(options.json, {**circumstances(options.date), "repeats": repeats, "gains": entries})


if __name__ == "__main__":
    main()
