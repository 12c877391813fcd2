"""Time until mean and standard deviation are as precise as those of 100 independent passes.

For each trained regression network and rate: the squared error of mean and standard deviation
against a long reference, and the processor time of one prediction, for several numbers of passes
and ways to run them. Squared errors fall as 1 / S, so the time to the loop's accuracy at S = 100 is
read off the line through the measured points. Run it with
`python examples/benchmarks/time_to_accuracy.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from by_hand import live_copy, loop, replicated
from fewer_passes import networks, trained
from record import arguments, circumstances, markdown, write
from torch import Tensor, nn
from workloads import Block

import mcdrop

# Takes a seed and a number of passes; returns mean and standard deviation.
Way = Callable[[int, int], tuple[Tensor, Tensor]]

PASSES = (8, 16, 32, 64, 100)


def regressions(p: float, epochs: float) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield name, trained network and rows to predict."""
    for name, net, x in networks(p, epochs):
        if name in {"MLP", "LSTM"}:
            yield name, net, x
    torch.manual_seed(1)
    x = torch.randn(1024, 64)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.5 * x[:, 3:4]
    wide = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(),
        nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 1),
    )  # fmt: skip
    yield "MLP, 3 x 256", trained(wide, x, y, F.mse_loss, int(20 * epochs)), x[:128]
    blocks = [Block(128, p) for _ in range(4)]
    residual = nn.Sequential(nn.Linear(64, 128), *blocks, nn.LayerNorm(128), nn.Linear(128, 1))
    yield "residual MLP", trained(residual, x, y, F.mse_loss, int(20 * epochs)), x[:128]


def ways(net: nn.Module, x: Tensor) -> dict[str, Way]:
    """Return the ways to predict, by name."""
    live = live_copy(net)

    def by_hand(run: Callable[[nn.Module, Tensor, int], Tensor]) -> Way:
        def predict(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            torch.manual_seed(seed)
            passes = run(live, x, n_samples)
            return passes.mean(dim=0), passes.std(dim=0)

        return predict

    def by_mcdrop(stratified: bool, control: bool) -> Way:
        mc = mcdrop.wrap(net, stratified=stratified)

        def predict(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            found = mc.predict_with_uncertainty(
                x, n_samples=n_samples, seed=seed, control_variate=control
            )
            return found.mean, found.std

        return predict

    return {
        "loop": by_hand(loop),
        "replicated batch": by_hand(replicated),
        "independent": by_mcdrop(False, False),
        "stratified": by_mcdrop(True, False),
        "controlled": by_mcdrop(True, True),
    }


def measured(
    predict: Way, n_samples: int, repeats: int, reference: tuple[Tensor, Tensor, int]
) -> dict[str, float]:
    """Return squared errors relative to those of one independent pass, and the time."""
    mean, std, n_reference = reference
    predict(0, n_samples)
    seconds, squares = math.inf, torch.zeros(2, dtype=torch.float64)
    for seed in range(1, repeats + 1):
        began = _clock(mean.device)
        found = predict(seed, n_samples)
        seconds = min(seconds, _clock(mean.device) - began)
        for place, (value, exact) in enumerate(zip(found, (mean, std), strict=True)):
            squares[place] += (value.double() - exact).square().mean() / repeats
    variance = std.square().mean()
    # A normal pass has the variance V^2 / (2 V) in its standard deviation; the reference errs too.
    units = variance, variance / 2
    errors = [
        max(float(s / u) - 1 / n_reference, 1e-9) for s, u in zip(squares, units, strict=True)
    ]
    return {
        "n_samples": n_samples, "seconds": seconds, "mean": errors[0], "std": errors[1]
    }  # fmt: skip


def _clock(device: torch.device) -> float:
    """Return processor time; on a device, the time once all that was launched is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def time_to(points: list[dict[str, float]], goals: tuple[float, float]) -> float:
    """Return the seconds to reach both errors, on the line through the nearest points.

    Between points, logarithms are interpolated; beyond the last one, errors fall as 1 / S and the
    time grows as S. No way is credited with fewer passes than were measured.
    """
    worst = [max(each["mean"] / goals[0], each["std"] / goals[1]) for each in points]
    if worst[0] <= 1:
        return points[0]["seconds"]
    for before, after, a, b in zip(points, points[1:], worst, worst[1:], strict=False):
        if b <= 1:
            share = math.log(a) / math.log(a / b)
            return math.exp(
                (1 - share) * math.log(before["seconds"]) + share * math.log(after["seconds"])
            )
    return points[-1]["seconds"] * worst[-1]


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the error of the standard deviation against time, one panel per network."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(each["network"] for each in results))
    rates = list(dict.fromkeys(each["p"] for each in results))
    figure = Figure(figsize=(3.1 * len(names), 2.7 * len(rates)), layout="constrained")
    axes = figure.subplots(len(rates), len(names), squeeze=False)
    for each in results:
        ax = axes[rates.index(each["p"])][names.index(each["network"])]
        for name, points in each["ways"].items():
            ax.loglog(
                [1e3 * point["seconds"] for point in points],
                [point["std"] for point in points],
                marker="o", markersize=3, label=name,
            )  # fmt: skip
        ax.axhline(each["goals"][1], color="0.6", linewidth=0.8, linestyle="--")
        ax.set_title(f"{each['network']}, p = {each['p']:g}", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("processor time, ms")
    for row in axes:
        row[0].set_ylabel("squared error of std / (V/2)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, action="append", help="dropout rate; repeatable")
    parser.add_argument("--image", type=Path, help="draw the errors to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = options.rate or ((0.3,) if options.smoke else (0.1, 0.3, 0.5))
    effort = 0.05 if options.smoke else 1.0
    results: list[dict[str, Any]] = []
    for p in rates:
        for name, net, x in regressions(p, effort):
            net, x = net.to(options.device), x.to(options.device)  # noqa: PLW2901
            n_reference = max(200, int(6_000 * effort))
            long = mcdrop.wrap(net, stratified=False).predict_with_uncertainty(
                x, n_samples=n_reference, seed=10**6, control_variate=False
            )
            reference = long.mean.double(), long.std.double(), n_reference
            repeats = max(3, int(10 * effort))
            found = {
                way: [measured(predict, s, repeats, reference) for s in PASSES]
                for way, predict in ways(net, x).items()
            }
            # Errors of 100 independent passes are known: V / 100 and about V / 200.
            goals = (1 / 100, 1 / 100)
            times = {way: time_to(points, goals) for way, points in found.items()}
            results.append(
                {"network": name, "p": p, "ways": found, "goals": goals, "seconds_to_goal": times}
            )
            # Written as it grows: the whole takes long.
            record = circumstances(options.date, options.device)
            write(options.json, {**record, "results": results})
            print(f"{name}, p = {p}: done", flush=True)
    rows = []
    for each in results:
        times = each["seconds_to_goal"]
        speed = [f"{times['loop'] / times[way]:.1f}x" for way in list(times)[1:]]
        rows.append([each["network"], f"{each['p']:g}", f"{1e3 * times['loop']:.0f} ms", *speed])
    header = ["network", "p", "loop", "replicated", "independent", "stratified", "controlled"]
    print(markdown(header, rows))
    if options.image is not None:
        draw(results, options.image)


if __name__ == "__main__":
    main()
