"""What was measured: a file per set that a run goes on from, and the summary over splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uci.published import MEASURES, Reference, reference
from uci.scoring import Score

__all__ = ["Record", "Store", "comparison", "summary"]


@dataclass(frozen=True)
class Record:
    """One method on all splits of one set.

    Attributes:
        settings: What the numbers depend on; other settings make them stale.
        scores: One per split.
        chosen: What was chosen on the training rows of each split.
        cpu_seconds: Processor time of training and prediction, over all threads.
    """

    settings: Mapping[str, Any]
    scores: Sequence[Score]
    chosen: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    cpu_seconds: float = 0.0

    def values(self, measure: str) -> list[float]:
        """Return one measure of every split."""
        return [getattr(score, measure) for score in self.scores]


class Store:
    """The records of one folder: `KIND/SET.json` holds those of all methods on a set.

    Args:
        folder: Where the files lie; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, method: str, settings: Mapping[str, Any]) -> Record | None:
        """Return the record of a method on a set, or None if missing or of other settings."""
        found = self._content(name).get(method)
        if found is None or found["settings"] != dict(settings):
            return None
        scores = [Score(**each) for each in found["scores"]]
        return Record(found["settings"], scores, found["chosen"], found["cpu_seconds"])

    def write(self, name: str, method: str, record: Record) -> None:
        """Add a record; a run that is killed meanwhile leaves the file as it was."""
        content = self._content(name)
        content[method] = asdict(record)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _content(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found


def comparison(ours: Sequence[float], published: Reference) -> dict[str, float | None]:
    """Return the mean over splits beside the published one.

    The standard error is that of the mean of the differences split by split, which is smaller than
    that of either mean, as some splits are hard for everyone. Where the paper prints the mean
    alone it is None, as is the difference where nothing was published.
    """
    mean = float(np.mean(ours))
    paired = None
    if published.per_split is not None and len(ours) == len(published.per_split) > 1:
        differences = np.subtract(ours, published.per_split)
        paired = float(differences.std(ddof=1) / np.sqrt(len(ours)))
    return {
        "ours": mean,
        "published": published.mean,
        "difference": None if published.mean is None else mean - published.mean,
        "paired_se": paired,
    }


def summary(records: Mapping[str, Record], column: str) -> dict[str, Any]:
    """Return the sets of one method beside a published column, as the JSON of the docs has it."""
    sets = {
        name: {
            measure: comparison(record.values(measure), reference(name, column, measure))
            for measure in MEASURES
        }
        for name, record in records.items()
    }
    return {"sets": sets}
