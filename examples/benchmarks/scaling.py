"""How time grows with passes, with rows, and with the share of a network before its first dropout.

Times are medians of interleaved calls, against the hand-written loop in the same run. Run it with
`python examples/benchmarks/scaling.py --json scaling.json --figure scaling.png`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from by_hand import live_copy, loop
from record import arguments, circumstances, write
from torch import Tensor, nn

import mcdrop

_LAYERS = 8
_LABELS = {
    "passes": "stochastic passes, S",
    "rows": "rows, N",
    "share": "share of the network before its first dropout",
}


def network(before: int = 1) -> nn.Module:
    """Return eight layers of 256 units, with dropout after each from layer `before` on."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(64, 256)]
    for number in range(1, _LAYERS + 1):
        layers.append(nn.ReLU())
        if number >= before:
            layers.append(nn.Dropout(0.1))
        layers.append(nn.Linear(256, 256 if number < _LAYERS else 1))
    return nn.Sequential(*layers).eval()


def timed(model: nn.Module, x: Tensor, n_samples: int, repeats: int) -> dict[str, float]:
    """Return milliseconds per call of each way."""
    live = live_copy(model)

    def by_hand() -> None:
        with torch.inference_mode():
            passes = loop(live, x, n_samples)
            passes.mean(dim=0), passes.var(dim=0)

    calls: dict[str, Callable[[], Any]] = {"loop": by_hand}
    kinds: tuple[Literal["independent", "shared"], ...] = ("independent", "shared")
    for masks in kinds:
        mc = mcdrop.wrap(model, masks=masks)
        predict = partial(mc.predict_with_uncertainty, x, n_samples=n_samples, seed=0)
        calls[f"mcdrop, {masks} masks"] = predict
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:  # the first is a warm-up
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in times.items()}


def drawn(series: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw one panel per series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, 3), series.items(), strict=True):
        for way in points[0]["ms"]:
            where = [point["at"] for point in points]
            axes.plot(where, [point["ms"][way] for point in points], marker="o", label=way)
        axes.set_xlabel(_LABELS[name])
        axes.set_ylabel("milliseconds")
        axes.set_yscale("log")
        if name != "share":
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--figure", type=Path, help="draw the times to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    small = options.smoke
    passes = (4, 8) if small else (10, 30, 100, 300, 1000)
    rows = (4, 8) if small else (8, 32, 128, 512, 2048)
    shares = (1, 8) if small else (1, 2, 4, 6, 7, 8)
    n_samples = 4 if small else 100

    def point(at: float, model: nn.Module, n_rows: int, n_passes: int) -> dict[str, Any]:
        x = torch.randn(n_rows, 64)
        return {"at": at, "ms": timed(model, x, n_passes, options.repeats)}

    series = {
        "passes": [point(s, network(), 64, s) for s in passes],
        "rows": [point(n, network(), n, n_samples) for n in rows],
        "share": [point(k / (_LAYERS + 1), network(k), 128, n_samples) for k in shares],
    }
    for name, points in series.items():
        print(f"\n{_LABELS[name]}")
        for each in points:
            found = ", ".join(f"{way} {ms:.1f} ms" for way, ms in each["ms"].items())
            print(f"  {each['at']:g}: {found}")
    write(options.json, {**circumstances(options.date), "repeats": options.repeats, **series})
    if options.figure is not None:
        drawn(series, options.figure)


if __name__ == "__main__":
    main()
