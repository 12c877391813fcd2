"""Rows per second of predictions from file to file on 1, 2, ... workers of Ray, and without Ray.

The cluster is started, and every worker has imported what it needs, before the clock starts; a
worker has one thread. The shortest of several runs counts. The load of the machine (processes that
wanted to run, mean of a minute) is recorded before every run: where it is above the number of
cores, others took part of them, and times say little about scaling.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from record import arguments, circumstances, markdown, write
from streaming import network, write_rows

import mcdrop

# Written down before the first run.
_PREDICTION = (
    "One worker reaches 0.9 of the rows per second of one process, since a block is copied once"
    " each way and reading and writing overlap with it; two workers on two cores 1.7 times one"
    " worker, since the process that reads and writes needs a part of a core."
)


def measured(data: Path, out: Path, n_samples: int, batch_rows: int, ray: str | None) -> float:
    """Return the seconds from file to file."""
    began = time.perf_counter()
    mcdrop.predict_file(
        network(),
        data,
        out,
        id_columns="id",
        n_samples=n_samples,
        batch_rows=batch_rows,
        resume=False,
        ray=ray,
    )
    return time.perf_counter() - began


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--batch-rows", type=int, default=5_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    import ray

    n_rows, n_samples = (400, 4) if options.smoke else (options.rows, options.samples)
    batch_rows = 100 if options.smoke else options.batch_rows
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        data, few, out = (Path(name) / f"{stem}.parquet" for stem in ("in", "few", "out"))
        write_rows(data, n_rows)
        write_rows(few, 4 * max(options.workers) * 20)
        wanted: Any = None
        for n_workers in (0, *options.workers):
            address = "auto" if n_workers else None
            if n_workers:
                ray.init(
                    num_cpus=n_workers,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            measured(few, out, n_samples, 20, address)
            seconds, load = [], []
            for _ in range(1 if options.smoke else options.repeats):
                load.append(os.getloadavg()[0])
                seconds.append(measured(data, out, n_samples, batch_rows, address))
            if n_workers:
                ray.shutdown()
            found = pd.read_parquet(out)
            wanted = found if wanted is None else wanted
            off = float(((found["mean"] - wanted["mean"]).abs() / wanted["std"]).max())
            if off > 1e-3 or not found["id"].equals(wanted["id"]):
                raise SystemExit(f"{n_workers} workers return other numbers: off by {off:g} std")
            best = min(seconds)
            results.append(
                {"workers": n_workers, "rows_per_second": n_rows / best, "seconds": seconds}
                | {"load_before": load, "largest_difference": off}
            )
    first = results[0]["rows_per_second"]
    lines = [
        [
            str(each["workers"] or "one process, no Ray"),
            f"{each['rows_per_second']:,.0f}",
            f"{each['rows_per_second'] / first:.2f}",
            f"{max(each['load_before']):.0f}",
        ]
        for each in results
    ]
    print(markdown(["workers", "rows per second", "of one process", "load before"], lines))
    content = {
        "prediction": _PREDICTION,
        "rows": n_rows,
        "n_samples": n_samples,
        "batch_rows": batch_rows,
        "ray": ray.__version__,
        "results": results,
    }
    write(options.json, {**circumstances(options.date), **content})


if __name__ == "__main__":
    main()
