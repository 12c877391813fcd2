"""Split conformal prediction: calibration scores, their finite-sample quantile, and groups.

RankedScores are kept as [group][output][rank], ascending, in plain lists, so that a prediction that
carries them is cut by rows and written to a file like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcdrop.errors import NonFiniteError, RangeError, ShapeError

RankedScores = Sequence[Sequence[Sequence[float]]]

ALL_ROWS = "all"


class Groups:
    """The groups seen in the fit, in the order of their index; one group if none were named."""

    def __init__(self, function: str, groups: Any, n_rows: int) -> None:
        labels = None if groups is None else _labels(function, groups, n_rows)
        self._named = labels is not None
        found = [ALL_ROWS] if labels is None else dict.fromkeys(labels)
        self._index = {label: index for index, label in enumerate(found)}
        self.of_rows = self.index(function, groups, n_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, for reading."""
        return tuple(map(str, self._index))

    def index(self, function: str, groups: Any, n_rows: int) -> Tensor:
        """Return the group of each row, (N,), int64."""
        if (groups is not None) != self._named:
            raise RangeError.of(
                function,
                "groups",
                "be given in the fit and in the call, or in neither",
                "None in the call" if self._named else "None in the fit",
                "Pass one group per row in both",
            )
        if groups is None:
            return torch.zeros(n_rows, dtype=torch.int64, device="cpu")
        labels = _labels(function, groups, n_rows)
        unknown = [label for label in dict.fromkeys(labels) if label not in self._index]
        if unknown:
            raise RangeError.of(
                function,
                "groups",
                f"hold groups of the fit ({', '.join(map(repr, list(self._index)[:10]))})",
                ", ".join(map(repr, unknown[:10])),
                "Calibrate with rows of every group",
            )
        return torch.tensor([self._index[label] for label in labels], device="cpu")


def sorted_scores(scores: Tensor, groups: Groups) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Sort the scores of the calibration rows, (N, D), by group and output."""
    rows = scores.cpu()
    return tuple(
        tuple(tuple(output.tolist()) for output in rows[groups.of_rows == g].sort(dim=0).values.T)
        for g in range(len(groups.names))
    )


def thresholds(
    function: str, argument: str, scores: RankedScores, names: Sequence[str], level: float
) -> Tensor:
    """Return the finite-sample quantile of the scores for each group and output, (G, D).

    It is the k-th smallest of n with k = ceil((n + 1) level): a new exchangeable score is at most
    that with probability at least level, and at most level + 1 / (n + 1) if scores do not tie.
    """
    # The level as written, 9/10 and not the double next to it, which would tip a whole rank over.
    exact = Fraction(str(float(level)))
    need = math.ceil(exact / (1 - exact))
    small = {
        name: len(group[0])
        for name, group in zip(names, scores, strict=True)
        if len(group[0]) < need
    }
    if small:
        found = ", ".join(f"{n} in group {name!r}" for name, n in small.items())
        raise RangeError.of(
            function,
            argument,
            f"have at least {need} calibration rows in every group for level {level:g}",
            f"{next(iter(small.values()))}" if list(names) == [ALL_ROWS] else found,
            "Calibrate on more rows, or ask for a lower level",
        )
    return torch.tensor(
        [
            [output[math.ceil((len(output) + 1) * exact) - 1] for output in group]
            for group in scores
        ],
        dtype=torch.float64,
        device="cpu",
    )


def _labels(function: str, groups: Any, n_rows: int) -> list[Any]:
    """Return one hashable label per row."""
    plain = groups.detach().cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    if plain.shape != (n_rows,):
        raise ShapeError.of(
            function,
            "groups",
            f"have shape ({n_rows},) to match `prediction`",
            plain.shape,
            "Pass one group per row",
        )
    labels: list[Any] = plain.tolist()
    missing = [
        row
        for row, label in enumerate(labels)
        if label is None or (isinstance(label, float) and math.isnan(label))
    ]
    if missing:
        raise NonFiniteError.of(
            function,
            "groups",
            "name a group for every row",
            f"none in rows {missing[:10]}",
            "Drop these rows, or put them in a group of their own",
        )
    return labels
