"""Predictions of a large Parquet file as a stream, against one call on all rows in memory.

Each way runs in fresh processes, from the file to a file of predictions. The shortest time of
several runs counts, and the most memory: what the process held at its peak above what was resident
with all imports in place, after a prediction of a few rows; Linux only, as it is read from `/proc`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import resident
from record import arguments, circumstances, markdown, write
from torch import nn

import mcdrop
from mcdrop._masks import numba_kernels as compiled

_FEATURES = 20


def network() -> nn.Module:
    """Return the MLP 20-64-64-1 with dropout after each hidden layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(_FEATURES, 64), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1),
    ).eval()  # fmt: skip


def write_rows(path: Path, n_rows: int) -> None:
    """Write random rows with an id, a row group of 100,000 at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    generator = np.random.default_rng(0)
    writer = None
    for first in range(0, n_rows, 100_000):
        rows = generator.standard_normal((min(100_000, n_rows - first), _FEATURES), np.float32)
        columns = {"id": np.arange(first, first + len(rows))}
        table = pa.table(columns | {f"x{i}": rows[:, i] for i in range(_FEATURES)})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measured(way: str, folder: Path, n_samples: int) -> dict[str, float]:
    """Predict the rows of ``in.parquet`` in this process; return seconds and MiB."""
    import pandas as pd

    mc = mcdrop.wrap(network())
    mc.predict_with_uncertainty(torch.randn(8, _FEATURES), n_samples=2, seed=0)
    # Few rows do not wait for Numba, which is an import too.
    compiled.prepare(wait=True)
    data, out = folder / "in.parquet", folder / f"{way}.parquet"
    baseline = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    began = time.perf_counter()
    if way == "streamed":
        mcdrop.predict_file(mc, data, out, id_columns="id", n_samples=n_samples, seed=0)
    else:
        table = pd.read_parquet(data).set_index("id")
        mc.predict_with_uncertainty(table, n_samples=n_samples, seed=0).save(out)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "over_mib": resident("VmHWM") - baseline}


def better(best: dict[str, float] | None, found: dict[str, float]) -> dict[str, float]:
    """Return the shortest time and the most memory of repeated runs."""
    if best is None:
        return found
    return {
        "seconds": min(best["seconds"], found["seconds"]),
        "over_mib": max(best["over_mib"], found["over_mib"]),
    }


def difference(folder: Path) -> float:
    """Return the largest difference of means between the two files, in predictive deviations."""
    import pandas as pd

    streamed = pd.read_parquet(folder / "streamed.parquet").set_index("id")
    whole = pd.read_parquet(folder / "in_memory.parquet")
    if not streamed.index.equals(whole.index):
        raise SystemExit("the ids differ")
    return float(((streamed["mean"] - whole["mean"]).abs() / whole["std"]).max())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", nargs=2, help="measure this way in this folder, print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n_samples = 4 if options.smoke else options.samples
    if options.child is not None:
        way, folder = options.child
        print(json.dumps(measured(way, Path(folder), n_samples)))
        return
    results: list[dict[str, Any]] = []
    for n_rows in [1_000, 3_000] if options.smoke else options.rows:
        with tempfile.TemporaryDirectory() as name:
            write_rows(Path(name) / "in.parquet", n_rows)
            result: dict[str, Any] = {"rows": n_rows}
            # In turn, so that both meet the same load of the machine.
            for way in ("streamed", "in_memory") * (1 if options.smoke else options.repeats):
                command = [sys.executable, __file__, "--child", way, name]
                command += ["--samples", str(n_samples), "--threads", str(options.threads)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
                result[way] = better(result.get(way), json.loads(done.stdout))
            result["ratio"] = result["streamed"]["seconds"] / result["in_memory"]["seconds"]
            result["largest_difference"] = difference(Path(name))
        results.append(result)
    lines = [
        [
            f"{result['rows']:,}",
            *(f"{result[way]['seconds']:.1f}" for way in ("streamed", "in_memory")),
            f"{result['ratio']:.2f}",
            *(f"{result[way]['over_mib']:.0f}" for way in ("streamed", "in_memory")),
        ]
        for result in results
    ]
    header = ["rows", "streamed s", "in memory s", "ratio", "streamed MiB", "in memory MiB"]
    print(markdown(header, lines))
    content = {
        "features": _FEATURES,
        "n_samples": n_samples,
        "repeats": options.repeats,
        "results": results,
    }
    write(options.json, {**circumstances(options.date), **content})


if __name__ == "__main__":
    main()
