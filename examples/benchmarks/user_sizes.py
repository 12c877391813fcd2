"""The first and later calls on networks of users' sizes, against the hand-written loop.

The first prediction of a wrapper looks at the model; that is the only one most people make. Time is
processor time of the calling thread, so that a busy machine disturbs little; the loop, a first call
(a new wrapper of a new copy of the model) and a later call take turns in one process, and ratios
are medians over turns. The first prediction of a process, which also loads code, is raced in
processes of its own against a loop that has run before. Every answer is compared with the loop's
within Monte Carlo error; a wrong answer fails, however fast. Run it with
`python examples/benchmarks/user_sizes.py --threads 1`.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Literal

import torch
from agreement import Pool, compared, kurtosis_of
from by_hand import dense, live_copy, loop
from record import arguments, circumstances, markdown, write
from torch import Tensor, nn
from user_models import Attention, Workload, chosen

import mcdrop

Masks = Literal["independent", "shared"]
MASKS: tuple[Masks, ...] = ("independent", "shared")


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor time of this thread, and what the call returned."""
    began = time.thread_time()
    found = call()
    return time.thread_time() - began, found


def predicted(mc: mcdrop.MCDropout, x: Tensor, work: Workload, seed: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the passes, of the output or of its class probabilities."""
    if work.classes:
        classes = mc.predict_with_uncertainty(
            x, n_samples=work.n_samples, seed=seed, task="classification"
        )
        return classes.probs, classes.probs_std.square()
    found = mc.predict_with_uncertainty(x, n_samples=work.n_samples, seed=seed, task="regression")
    return found.mean, found.variance


def by_hand(live: nn.Module, x: Tensor, work: Workload) -> Tensor:
    """Run the loop; of classes, with the statistics that one would write as well."""
    passes = loop(live, x, work.n_samples)
    if not work.classes:
        return passes
    with torch.inference_mode():
        probs = passes.softmax(dim=2)
        mean = probs.mean(dim=0)
        for each in (mean.unsqueeze(0), probs):
            torch.special.entr(each).sum(dim=2).mean(dim=0)
        probs.std(dim=0)
    return probs


def of_a_process(work: Workload) -> float:
    """Return how many times faster than the loop the first prediction of this process is."""
    model, x = work.make()
    live = live_copy(model, Attention)
    loop(live, x, 2)
    loop_seconds, _ = seconds_of(lambda: by_hand(live, x, work))
    mc = mcdrop.wrap(model)
    seconds, _ = seconds_of(lambda: predicted(mc, x, work, 1))
    return loop_seconds / seconds


def in_new_processes(name: str, repeats: int, threads: int, smoke: bool) -> float:
    """Return the median of `of_a_process` over processes."""
    words = [sys.executable, __file__, "--of-a-process", "--workload", name]
    words += ["--threads", str(threads), *(["--smoke"] if smoke else [])]
    found = []
    for _ in range(repeats):
        run = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603
        found.append(float(run.stdout))
    return median(found)


def warmed_up() -> None:
    """Load what torch and mcdrop load on first use, by another network."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2))
    for masks in MASKS:
        mc = mcdrop.wrap(net.eval(), masks=masks)
        mc.predict_with_uncertainty(torch.randn(3, 1, 4, 4), n_samples=10, task="regression")


def measured(work: Workload, repeats: int) -> dict[str, Any]:
    """Race one workload."""
    model, x = work.make()
    live = live_copy(model, Attention)
    torch.manual_seed(1)
    loop(live, x, 2)
    tile = max(t for t in (1, 2, 5, 10, 100) if work.n_samples % t == 0)
    run_dense = dense(model, x, work.n_samples, tile)
    later = {masks: mcdrop.wrap(model, masks=masks) for masks in MASKS}
    for mc in later.values():
        predicted(mc, x, work, 0)
    times: dict[str, list[float]] = {}
    pools = {masks: Pool() for masks in MASKS}
    reference, passes = Pool(), []

    def turn(name: str, call: Callable[[], Any]) -> Any:
        seconds, found = seconds_of(call)
        times.setdefault(name, []).append(seconds)
        return found

    for seed in range(1, repeats + 1):
        samples = turn("loop", lambda: by_hand(live, x, work))
        reference.add(samples.mean(dim=0), samples.var(dim=0), work.n_samples)
        passes.append(samples)
        turn("dense", run_dense)
        for masks in MASKS:
            new = mcdrop.wrap(copy.deepcopy(model), masks=masks)
            for name, mc in (("first", new), ("later", later[masks])):

                def call(mc: mcdrop.MCDropout = mc, seed: int = seed) -> tuple[Tensor, Tensor]:
                    return predicted(mc, x, work, seed)

                answer = turn(f"{name} {masks}", call)
            mean, variance = answer
            pools[masks].add(mean, variance, work.n_samples)
    kurtosis = kurtosis_of(torch.cat(passes))
    ratios = {
        name: median(a / b for a, b in zip(times["loop"], each, strict=True))
        for name, each in times.items()
        if name != "loop"
    }
    holds = {masks: compared(pools[masks], reference, kurtosis).holds for masks in MASKS}
    return {
        "workload": work.name,
        "text": work.text,
        "rows": work.n_rows,
        "n_samples": work.n_samples,
        "targets": work.targets,
        "loop_ms": 1e3 * median(times["loop"]),
        "dense_tile": tile,
        "ratios": ratios,
        "agreement": holds,
    }


def table(entries: list[dict[str, Any]]) -> str:
    """Return the entries as a Markdown table: ratios to the loop."""
    names = (
        "of a process",
        "first independent",
        "later independent",
        "first shared",
        "later shared",
    )
    rows = []
    for each in entries:
        wanted = each["targets"]
        target = "" if wanted is None else f"{wanted[0]:g} / {wanted[1]:g}"
        ratios = [f"{each['ratios'][name]:.2f}x" for name in ("dense", *names)]
        right = "yes" if all(each["agreement"].values()) else "WRONG"
        rows.append([each["text"], f"{each['loop_ms']:.1f}", *ratios, target, right])
    header = ["workload", "loop, ms", "dense", *names, "target, first / later", "agrees"]
    return markdown(header, rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workload", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--of-a-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.of_a_process:
        print(of_a_process(chosen(options.workload, smoke=options.smoke)[0]))
        return
    warmed_up()
    entries: list[dict[str, Any]] = []
    for work in chosen(options.workload, smoke=options.smoke):
        entry = measured(work, options.repeats)
        entry["ratios"]["of a process"] = in_new_processes(
            work.name, 1 if options.smoke else 3, options.threads, options.smoke
        )
        entries.append(entry)
        print(f"{work.name}: done", flush=True)
    record = circumstances(options.date)
    print(f"\n{record['hardware']}\n\n{table(entries)}")
    write(options.json, {**record, "repeats": options.repeats, "workloads": entries})
    if not all(all(each["agreement"].values()) for each in entries):
        raise SystemExit("An answer is off by more than Monte Carlo error.")


if __name__ == "__main__":
    main()
