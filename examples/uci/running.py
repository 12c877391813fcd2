"""Run methods on sets, with a progress bar, and keep what was measured after every one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from uci.catalog import METHODS
from uci.data import Kind, Split, load, splits_of
from uci.methods import Run
from uci.published import tuned
from uci.records import Record, Store
from uci.scoring import score

__all__ = ["Options", "run_all", "settings_of"]


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        data: Folder of the data sets.
        out: Folder of the results.
        sets: Names of sets.
        methods: Names of methods.
        kind: "standard" or "gap" splits.
        workers: Threads.
        n_samples: Passes per test row.
        epochs: Instead of those of each method; None keeps them.
    """

    data: Path
    out: Path
    sets: tuple[str, ...]
    methods: tuple[str, ...]
    kind: Kind = "standard"
    workers: int = 2
    n_samples: int = 10_000
    epochs: int | None = None

    @property
    def store(self) -> Store:
        """Where the results of these splits lie."""
        return Store(self.out / self.kind)


def settings_of(options: Options, method: str) -> dict[str, Any]:
    """Return what the numbers of a method depend on, apart from the code."""
    return {
        "epochs": options.epochs,
        "n_samples": min(options.n_samples, METHODS[method].n_samples),
    }


def run_all(options: Options) -> None:
    """Run what is not yet in the results folder; each set is written when a method is done."""
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for name in options.sets:
            memory: dict[str, nn.Module] = {}
            splits = splits_of(name, load(options.data, name), options.kind)
            for method in options.methods:
                most = METHODS[method].max_rows
                if most is not None and len(splits[0].train) > most:
                    continue
                if options.store.read(name, method, settings_of(options, method)) is None:
                    record = _run_one(options, name, splits, method, progress, memory)
                    options.store.write(name, method, record)


def _run_one(
    options: Options,
    name: str,
    splits: Sequence[Split],
    method: str,
    progress: Progress,
    memory: dict[str, nn.Module],
) -> Record:
    """Fit and score one method on all splits of a set."""
    began = time.process_time()
    # How many networks a method trains is its own affair: the bar counts them, without an end.
    bar = progress.add_task(f"{name}, {METHODS[method].title}", total=None)

    def advance() -> None:
        progress.advance(bar)

    n_samples = settings_of(options, method)["n_samples"]
    run = Run(tuned(name), n_samples, options.workers, options.epochs, advance, memory)
    fitted = METHODS[method].method([split.train for split in splits], run)
    progress.update(bar, total=progress.tasks[bar].completed + len(splits))
    scores = []
    for split, each in zip(splits, fitted, strict=True):
        scores.append(score(each.predictor, split.test, n_samples))
        advance()
    chosen = [dict(each.chosen) for each in fitted]
    seconds = time.process_time() - began
    return Record(settings_of(options, method), scores, chosen, round(seconds, 1))
