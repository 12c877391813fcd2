"""The stopping rule of n_samples="auto": Monte Carlo standard errors against the tolerance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mcdrop._engine.record import Run
from mcdrop._tasks.tails import never_dropped
from mcdrop._tasks.tiles import joined
from mcdrop.errors import RangeError
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = [
    "CHECKPOINTS",
    "PredictionT",
    "SettledRows",
    "Tolerance",
    "Tolerated",
    "in_row_order",
    "warn_of_rare_drops",
]

PredictionT = TypeVar("PredictionT", RegressionPrediction, ClassificationPrediction)

CHECKPOINTS = (64, 96, 144, 208, 320, 480, 720, 1072, 1616, 2416, 3632, 5440, 8160, 10_000)
"""Checkpoints of the stopping rule: numbers of passes, in whole strata of 16, each about half as
many again as the one before."""

# The largest standard errors: one for all quantities, or one for each.
Tolerated = float | Mapping[str, float] | None

# The standard error of each quantity that can be asked for.
_REGRESSION = {"mean": "mcse", "std": "std_mcse"}
_CLASSIFICATION = {
    "probs": "mcse",
    "probs_std": "probs_std_mcse",
    "predictive_entropy": "predictive_entropy_mcse",
    "mutual_information": "mutual_information_mcse",
}
_RELATIVE = 0.05
_ABSOLUTE = 0.01
# Largest acceptable probability that a unit was never dropped.
_NEVER = 0.05


@dataclass(frozen=True)
class SettledRows(Generic[PredictionT]):
    """The prediction for rows that ran equally many passes.

    Attributes:
        numbers: Which rows, (n,).
        result: Their prediction.
        n_samples: Passes per row.
        settled: Whether they reached the tolerance.
    """

    numbers: Tensor
    result: PredictionT
    n_samples: int
    settled: bool


@dataclass(frozen=True)
class Tolerance(Generic[PredictionT]):
    """The largest Monte Carlo standard errors that are accepted.

    Attributes:
        function: Public function to name in errors.
        given: A number for all quantities, one by quantity, or None for the default.
        is_regression: Whether predictions are regressions: a single number is then relative to
            the predictive standard deviation of each value; it is absolute for classifications.
    """

    function: str
    given: float | Mapping[str, float] | None
    is_regression: bool

    def __post_init__(self) -> None:
        by_name = self.given if isinstance(self.given, Mapping) else {"": self.given}
        for value in by_name.values():
            wrong = isinstance(value, bool) or not isinstance(value, int | float)
            if value is not None and (wrong or not 0 < value < math.inf):
                self._refuse("be positive", value, "Pass the standard error you can live with")
        unknown = sorted(set(by_name) - set(self._errors()) - {""})
        if unknown or not by_name:
            names = f"name quantities among {list(self._errors())}"
            self._refuse(names, unknown or "none", "Leave out the others")

    def settled(self, prediction: PredictionT) -> Tensor:
        """Tell which rows need no more passes, (N,)."""
        quantities = self._errors()
        unit: float | Tensor = 1.0
        if isinstance(self.given, Mapping):
            limits = dict(self.given)
        else:
            by_default = _RELATIVE if self.is_regression else _ABSOLUTE
            limits = dict.fromkeys(quantities, self.given or by_default)
        if isinstance(prediction, RegressionPrediction) and not isinstance(self.given, Mapping):
            unit = prediction.std
        enough = []
        for name, limit in limits.items():
            error: Tensor = getattr(prediction, quantities[name])
            small = error <= limit * unit
            enough.append(small.reshape(len(small), -1).all(dim=1))
        return torch.stack(enough).all(dim=0)

    def _errors(self) -> dict[str, str]:
        return _REGRESSION if self.is_regression else _CLASSIFICATION

    def _refuse(self, condition: str, value: object, remedy: str) -> None:
        raise RangeError.of(self.function, "tolerance", condition, value, remedy)


def in_row_order(function: str, parts: Sequence[SettledRows[PredictionT]]) -> PredictionT:
    """Put predictions for sets of rows together, and warn of rows that did not settle."""
    unsettled = sum(len(part.numbers) for part in parts if not part.settled)
    if unsettled:
        total = sum(len(part.numbers) for part in parts)
        most = max(part.n_samples for part in parts)
        warnings.warn(
            f"{function}: {unsettled} of {total} rows did not reach `tolerance` in {most} passes."
            " Their standard errors say how far they got. Raise `tolerance`.",
            stacklevel=3,
        )
    whole = joined([_with_passes(part.result, part.n_samples) for part in parts])
    order = torch.cat([part.numbers for part in parts]).argsort()
    return replace(whole[order], n_samples=max(part.n_samples for part in parts))


def warn_of_rare_drops(function: str, run: Run, n_samples: int) -> None:
    """Warn where the passes may not have dropped some unit once, so that no error can show it.

    Args:
        function: Public function to name.
        run: Record of the passes.
        n_samples: Fewest passes of any row.
    """
    live = [site for site in run.sites if site.fired]
    chances = [never_dropped(s.p, n_samples, stratified=run.stratified) for s in live]
    if not chances or max(chances) <= _NEVER:
        return
    site = live[chances.index(max(chances))]
    rare = min(site.p, 1 - site.p)
    # ln(0.05) = -3.0: after 3 / p passes, (1 - p)^S <= 0.05.
    needed = math.ceil(-math.log(_NEVER) / rare)
    state = "dropped" if site.p <= 1 / 2 else "kept"
    warnings.warn(
        f"{function}: with probability {max(chances):.2f} a unit of {site.name} (p={site.p:g}) is"
        f" not {state} in any of {n_samples} passes, and standard errors cannot show its"
        f" influence. Pass n_samples={needed} or more.",
        stacklevel=3,
    )


def _with_passes(prediction: PredictionT, n_samples: int) -> PredictionT:
    per_row = torch.full((len(prediction),), n_samples, device=_device(prediction))
    return replace(prediction, passes_per_row=per_row)


def _device(prediction: Prediction) -> torch.device:
    return next(iter(prediction._tensors().values())).device
