"""Time until a prediction is as precise as that of 100 independent passes.

For each trained network and rate: the squared errors of two quantities against a long reference
(mean and standard deviation of a regression, probabilities and mutual information of a
classification), and the processor time of one prediction, for several numbers of passes and ways to
run them. Squared errors fall as 1 / S, so the time to the loop's accuracy at S = 100 is read off
the line through the measured points; a way that stays above it (variance propagation has an error
that no passes reduce) has none. Networks that the file of `--json` holds already are not run again.
Run it with `python examples/benchmarks/time_to_accuracy.py`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from by_hand import live_copy, loop, replicated
from fewer_passes import networks, trained
from record import arguments, circumstances, markdown, write
from sklearn.datasets import load_digits
from torch import Tensor, nn
from variance_propagation import antithetic_copy, multilevel, propagated
from workloads import Block

import mcdrop

# Takes a seed and a number of passes; returns the two quantities.
Way = Callable[[int, int], tuple[Tensor, Tensor]]

PASSES = (8, 16, 32, 100)
WAYS = (
    "loop", "replicated batch", "multilevel", "antithetic pairs", "variance propagation",
    "independent", "default", "controlled",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A trained network with rows to predict.

    Attributes:
        name: Name of the network.
        net: The network.
        x: The rows.
        classes: Whether it classifies.
    """

    name: str
    net: nn.Module
    x: Tensor
    classes: bool = False

    @property
    def quantities(self) -> tuple[str, str]:
        """Names of what is compared."""
        return ("probs", "mutual information") if self.classes else ("mean", "std")

    def of_passes(self, passes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantities of plain passes, (S, N, ...)."""
        if not self.classes:
            return passes.mean(dim=0), passes.std(dim=0)
        probs = passes.softmax(dim=2)
        mean = probs.mean(dim=0)
        return mean, entropy(mean) - entropy(probs).mean(dim=0)

    def of_normal(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantities of independent normal outputs."""
        if not self.classes:
            return mean, variance.sqrt()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(200, *mean.shape, generator=generator)
        return self.of_passes(mean + variance.sqrt() * noise)


def entropy(probs: Tensor) -> Tensor:
    """Entropy over the last dimension, nats."""
    return -torch.special.xlogy(probs, probs).sum(dim=-1)


class Encoder(nn.Module):
    """A transformer encoder that reads an image row by row."""

    def __init__(self, p: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, p, batch_first=True)
        self.into, self.body = nn.Linear(8, 32), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify (N, 8, 8)."""
        out: Tensor = self.head(self.body(self.into(x)).mean(dim=1))
        return out


def classifications(p: float, epochs: float) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield names, and what trains the network and chooses rows to predict."""
    data = load_digits()
    x = torch.tensor(data.data / 16, dtype=torch.float32)
    y = torch.tensor(data.target)

    def case(name: str, net: nn.Module, rows: Tensor, n_epochs: int) -> Case:
        trained(net, rows, y, F.cross_entropy, max(1, int(n_epochs * epochs)))
        return Case(name, net, rows[:24], classes=True)

    def digits() -> Case:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 64), nn.ReLU(),
            nn.Dropout(p), nn.Linear(64, 10),
        )  # fmt: skip
        return case("digits MLP", net, x, 15)

    def images() -> Case:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Dropout2d(p),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Dropout2d(p), nn.Flatten(),
            nn.Linear(512, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 10),
        )  # fmt: skip
        return case("CNN", net, x.view(-1, 1, 8, 8), 4)

    def encoder() -> Case:
        torch.manual_seed(0)
        return case("transformer", Encoder(p), x.view(-1, 8, 8), 15)

    yield "digits MLP", digits
    yield "CNN", images
    yield "transformer", encoder


def regressions(p: float, epochs: float) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield names, and what trains the network and chooses rows to predict."""

    def known(wanted: str) -> Case:
        name, net, x = next(each for each in networks(p, epochs) if each[0] == wanted)
        return Case(name, net, x)

    torch.manual_seed(1)
    x = torch.randn(1024, 64)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.5 * x[:, 3:4]

    def case(name: str, net: nn.Module) -> Case:
        return Case(name, trained(net, x, y, F.mse_loss, max(1, int(20 * epochs))), x[:128])

    def wide() -> Case:
        net = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(),
            nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 1),
        )  # fmt: skip
        return case("MLP, 3 x 256", net)

    def residual() -> Case:
        blocks = [Block(128, p) for _ in range(4)]
        net = nn.Sequential(nn.Linear(64, 128), *blocks, nn.LayerNorm(128), nn.Linear(128, 1))
        return case("residual MLP", net)

    yield "MLP", lambda: known("MLP")
    yield "LSTM", lambda: known("LSTM")
    yield "MLP, 3 x 256", wide
    yield "residual MLP", residual


def ways(case: Case) -> dict[str, Way]:
    """Return the ways to predict, by name."""
    net, x = case.net, case.x
    live = live_copy(net)

    def by_hand(run: Callable[[nn.Module, Tensor, int], Tensor], model: nn.Module) -> Way:
        def predict(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            torch.manual_seed(seed)
            return case.of_passes(run(model, x, n_samples))

        return predict

    def by_mcdrop(stratified: bool, control: Any) -> Way:
        mc = mcdrop.wrap(net, stratified=stratified)

        def predict(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            options: dict[str, Any] = {"seed": seed, "control_variate": control}
            if case.classes:
                classes = mc.predict_with_uncertainty(
                    x, n_samples=n_samples, task="classification", **options
                )
                return classes.probs, classes.mutual_information
            found = mc.predict_with_uncertainty(
                x, n_samples=n_samples, task="regression", **options
            )
            return found.mean, found.std

        return predict

    found = {"loop": by_hand(loop, live), "replicated batch": by_hand(replicated, live)}
    if not case.classes:

        def by_levels(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            torch.manual_seed(seed)
            mean, variance = multilevel(loop(live, x, n_samples))
            return mean, variance.sqrt()

        found["multilevel"] = by_levels
    if isinstance(net, nn.Sequential) and {type(each) for each in net} <= {
        nn.Linear, nn.ReLU, nn.Dropout,
    }:  # fmt: skip
        found["antithetic pairs"] = by_hand(loop, antithetic_copy(net))

        def propagate(seed: int, n_samples: int) -> tuple[Tensor, Tensor]:
            with torch.inference_mode():
                return case.of_normal(*propagated(net, x))

        found["variance propagation"] = propagate
    found["independent"] = by_mcdrop(False, False)
    found["default"] = by_mcdrop(True, "auto")
    found["controlled"] = by_mcdrop(True, True)
    return found


def measured(
    case: Case, predict: Way, n_samples: int, repeats: int, reference: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Return squared errors and the processor time."""
    predict(0, n_samples)
    seconds, squares = math.inf, torch.zeros(2, dtype=torch.float64)
    for seed in range(1, repeats + 1):
        began = _clock(case.x.device)
        found = predict(seed, n_samples)
        seconds = min(seconds, _clock(case.x.device) - began)
        for place, (value, exact) in enumerate(zip(found, reference, strict=True)):
            squares[place] += (value.double() - exact).square().mean() / repeats
    errors = dict(zip(case.quantities, squares.tolist(), strict=True))
    return {"n_samples": n_samples, "seconds": seconds, **errors}


def _clock(device: torch.device) -> float:
    """Return processor time; on a device, the time once all that was launched is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def time_to(points: list[dict[str, float]], goals: dict[str, float]) -> float | None:
    """Return the seconds to reach both errors, on the line through the nearest points.

    Between points, logarithms are interpolated; beyond the last one, errors fall as 1 / S and the
    time grows as S. No way is credited with fewer passes than were measured.
    """
    worst = [max(each[name] / goal for name, goal in goals.items()) for each in points]
    if worst[0] <= 1:
        return points[0]["seconds"]
    if len(points) == 1:
        return None
    for before, after, a, b in zip(points, points[1:], worst, worst[1:], strict=False):
        if b <= 1:
            share = math.log(a) / math.log(a / b)
            return math.exp(
                (1 - share) * math.log(before["seconds"]) + share * math.log(after["seconds"])
            )
    return points[-1]["seconds"] * worst[-1]


def result_of(case: Case, p: float, effort: float) -> dict[str, Any]:
    """Measure all ways to predict of one network."""
    many = max(200, int(3_000 * effort))
    long: Any = mcdrop.wrap(case.net, stratified=False).predict_with_uncertainty(
        case.x, n_samples=many, seed=10**6, control_variate=False,
        task="classification" if case.classes else "regression",
    )  # fmt: skip
    exact = (long.probs, long.mutual_information) if case.classes else (long.mean, long.std)
    reference = exact[0].double(), exact[1].double()
    repeats = max(3, int(5 * effort))
    found: dict[str, list[dict[str, float]]] = {}
    for name, predict in ways(case).items():
        passes = (1,) if name == "variance propagation" else PASSES
        found[name] = [measured(case, predict, s, repeats, reference) for s in passes]
    # The loop, the replicated batch and independent passes have the same errors.
    same = [found[name][-1] for name in ("loop", "replicated batch", "independent")]
    goals = {
        name: sum(each[name] for each in same) / len(same) for name in case.quantities
    }  # fmt: skip
    times = {name: time_to(points, goals) for name, points in found.items()}
    # By definition: its errors at 100 passes are the goals, up to the noise of few repetitions.
    times["loop"] = found["loop"][-1]["seconds"]
    return {
        "network": case.name, "p": p, "reference_passes": many, "repeats": repeats,
        "quantities": list(case.quantities), "ways": found, "goals": goals,
        "seconds_to_goal": times,
    }  # fmt: skip


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the error of the spread against time, one panel per network and rate."""
    from matplotlib.figure import Figure

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.5 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    lines: dict[str, Any] = {}
    for ax, each in zip(axes, results, strict=False):
        spread = each["quantities"][1]
        for name, points in each["ways"].items():
            (lines[name],) = ax.loglog(
                [1e3 * point["seconds"] for point in points],
                [point[spread] / each["goals"][spread] for point in points],
                marker="o", markersize=3, linewidth=1.2, color=f"C{WAYS.index(name)}",
            )  # fmt: skip
        ax.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
        ax.set_title(f"{each['network']}, p = {each['p']:g}", fontsize=9)
        ax.set_xlim(1, 300)
        ax.set_ylim(0.02, 200)
        ax.set_xlabel("processor time, ms", fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in axes[len(results) :]:
        ax.set_axis_off()
    figure.supylabel("squared error of std or MI / that of 100 passes", fontsize=9)
    figure.legend(
        [lines[name] for name in WAYS if name in lines], [name for name in WAYS if name in lines],
        loc="outside lower center", ncols=4, fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=110)


def table(results: list[dict[str, Any]]) -> str:
    """Return the times as a Markdown table."""
    rows = []
    for each in results:
        times = each["seconds_to_goal"]
        speed = []
        for name in WAYS[1:]:
            seconds = times.get(name)
            missing = "never" if name in times else ""
            speed.append(f"{times['loop'] / seconds:.1f}x" if seconds else missing)
        rows.append([each["network"], f"{each['p']:g}", f"{1e3 * times['loop']:.0f} ms", *speed])
    rows.sort(key=lambda row: float(row[1]))
    header = [
        "network",
        "p",
        "loop",
        "replicated",
        *WAYS[2:3],
        "antithetic",
        "propagation",
        *WAYS[5:],
    ]
    return markdown(header, rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, action="append", help="dropout rate; repeatable")
    parser.add_argument("--network", action="append", help="name of a network; repeatable")
    parser.add_argument("--image", type=Path, help="draw the errors to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = options.rate or ((0.3,) if options.smoke else (0.1, 0.3, 0.5))
    effort = 0.05 if options.smoke else 1.0
    results: list[dict[str, Any]] = []
    if options.json is not None and options.json.exists():
        results = json.loads(options.json.read_text())["results"]
    done = {(each["network"], each["p"]) for each in results}
    for p in rates:
        for name, build in (*classifications(p, effort), *regressions(p, effort)):
            if (name, p) in done or (options.network and name not in options.network):
                continue
            case = build()
            case = replace(case, net=case.net.to(options.device), x=case.x.to(options.device))
            results.append(result_of(case, p, effort))
            # Written as it grows: the whole takes long.
            record = circumstances(options.date, options.device)
            write(options.json, {**record, "results": results})
            print(f"{name}, p = {p}: done", flush=True)
    print(table(results))
    if options.image is not None:
        draw(results, options.image)


if __name__ == "__main__":
    main()
