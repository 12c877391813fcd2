"""Fitted recalibrations as tensor arithmetic on what a program returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mcdrop._export.summary import Summary, entropy
from mcdrop.errors import McdropError, UnsupportedError
from mcdrop.recalibration import (
    ConformalClassifier,
    ConformalRegressor,
    StdScaling,
    TemperatureScaling,
)
from mcdrop.recalibration._interval_scores import moved_ends

__all__ = ["Recalibrated", "Recalibration", "Steps", "steps_of"]

Recalibration: TypeAlias = (
    TemperatureScaling | StdScaling | ConformalRegressor | ConformalClassifier
)
"""What can be baked into a program."""

# Scores of float32 probabilities tie with the threshold to within this; ties belong to the set, so
# that rounding never takes a label out of it. The last class by cumulative probability scores 1 in
# every row, and where the threshold is 1 as well, all rows tie.
_ROUNDING = 1e-6
# Scores this close to the threshold are not compared between program and prediction.
_UNDECIDED = 1e-5


class _Step(nn.Module):
    """Changes what a program returns, or adds to it.

    Attributes:
        adds: Names that it adds.
        described: What it is, as plain values.
    """

    adds: tuple[str, ...] = ()

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__()
        self.described = described

    def forward(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what was found, changed."""
        return found

    def expected(self, prediction: Any) -> dict[str, Tensor]:
        """Return what it should add, from a prediction that was recalibrated."""
        return {name: getattr(prediction, name) for name in self.adds}


class _PassTemperature(_Step):
    """The temperature of every pass, which the summary of passes applies."""

    def __init__(self, scaling: TemperatureScaling) -> None:
        super().__init__(_plain(scaling, temperature=scaling.temperature, apply_to="passes"))
        self.temperature = scaling.temperature


class _Temperature(_Step):
    """The temperature of averaged probabilities; shares of uncertainty stay as they were."""

    def __init__(self, scaling: TemperatureScaling) -> None:
        super().__init__(_plain(scaling, temperature=scaling.temperature, apply_to="mean"))
        self.temperature = scaling.temperature

    def forward(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        old, total = found["probs"], found["predictive_entropy"]
        new = (old.log() / self.temperature).softmax(dim=1)
        new_total = entropy(new, dim=1)
        ratio = _quotient(new * (1 - new), old * (1 - old)).sqrt()
        return {
            **found,
            "probs": new,
            "probs_std": found["probs_std"] * ratio,
            "predictive_entropy": new_total,
            "mutual_information": found["mutual_information"] * _quotient(new_total, total),
        }


class _StdFactor(_Step):
    """The factor on standard deviations, one per output."""

    factor: Tensor

    def __init__(self, scaling: StdScaling) -> None:
        super().__init__(_plain(scaling, factor=scaling.factor.tolist()))
        self.register_buffer("factor", scaling.factor)

    def forward(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        scaled = {name: found[name] * self.factor for name in ("std", "epistemic_std")}
        return {**found, **scaled}


class _Interval(_Step):
    """The ends of a conformal interval: a quantile of errors, or of errors in units of the std."""

    adds = ("lower", "upper")
    reach: Tensor

    def __init__(self, conformal: ConformalRegressor, reach: Tensor) -> None:
        super().__init__(_conformal(conformal, reach))
        self.register_buffer("reach", reach)
        self.by_std = conformal.method == "normalized"

    def forward(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        # In float64 and then rounded outward, as the scores and their quantile are in the fit.
        mean = found["mean"].double()
        reach = self.reach.to(mean).reshape(mean.shape[1:])
        width = reach * found["std"].double() if self.by_std else reach.expand_as(mean)
        lower, upper = moved_ends(mean, mean, width, found["mean"].dtype)
        return {**found, "lower": lower, "upper": upper}


class _Set(_Step):
    """The classes whose conformal score is at most the quantile of the calibration scores."""

    adds = ("prediction_set",)
    limit: Tensor

    def __init__(self, conformal: ConformalClassifier, limit: Tensor) -> None:
        super().__init__(_conformal(conformal, limit))
        self.register_buffer("limit", limit)
        self.is_cumulative = conformal.method != "lac"
        self.penalty = conformal.penalty if conformal.method == "raps" else 0.0
        self.n_free = conformal.n_free

    def forward(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        # In float64, as the scores and their quantile are in the fit.
        probs = found["probs"].double()
        scores = self._cumulative(probs) if self.is_cumulative else 1 - probs
        return {**found, "prediction_set": scores <= self.limit + _ROUNDING}

    def expected(self, prediction: Any) -> dict[str, Tensor]:
        sets = prediction.prediction_sets(prediction.level).double()
        undecided = (prediction.class_scores - self.limit).abs() < _UNDECIDED
        return {"prediction_set": sets.masked_fill(undecided, torch.nan)}

    def _cumulative(self, probs: Tensor) -> Tensor:
        # On a CPU torch sorts stably anyway, and TopK of ONNX puts the lower index first.
        ordered, classes = probs.sort(dim=1, descending=True)
        ranks = torch.arange(1, probs.shape[1] + 1)
        scores = ordered.cumsum(dim=1) + self.penalty * (ranks - self.n_free).clamp_min(0)
        return torch.empty_like(scores).scatter(1, classes, scores)


class Recalibrated(Summary):
    """A summary and what is done to it afterwards.

    Args:
        summary: Of the passes.
        steps: In order.
    """

    def __init__(self, summary: Summary, steps: Sequence[_Step]) -> None:
        super().__init__()
        self.summary = summary
        self.steps = nn.ModuleList(steps)
        self.names = (*summary.names, *(name for step in steps for name in step.adds))

    def forward(self, passes: Tensor) -> dict[str, Tensor]:
        """Summarize (S, n, ...)."""
        found: dict[str, Tensor] = self.summary(passes)
        for step in self.steps:
            found = step(found)
        return found


@dataclass(frozen=True)
class Steps:
    """Recalibrations as given, and as they are baked in.

    Attributes:
        given: Fitted recalibrations, in order.
        modules: Their arithmetic on what a program returns.
    """

    given: tuple[Recalibration, ...] = ()
    modules: tuple[_Step, ...] = ()

    @property
    def temperature(self) -> float:
        """Temperature of every pass, 1 for none."""
        scaled = (each for each in self.modules if isinstance(each, _PassTemperature))
        return next((each.temperature for each in scaled), 1.0)

    @property
    def need_samples(self) -> bool:
        """Whether a prediction has to keep its passes for them."""
        return any(isinstance(each, _PassTemperature) for each in self.modules)

    @property
    def described(self) -> list[dict[str, Any]]:
        """What they are, as plain values."""
        return [each.described for each in self.modules]

    def added_to(self, summary: Summary) -> Summary:
        """Return a summary that is recalibrated."""
        return Recalibrated(summary, self.modules) if self.modules else summary

    def expected(self, prediction: Any, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what a program should.

        Args:
            prediction: As it is before.
            names: What it returns before.
        """
        for each in self.given:
            prediction = each(prediction)
        found = {name: getattr(prediction, name) for name in names}
        for module in self.modules:
            found.update(module.expected(prediction))
        return found


def steps_of(function: str, recalibration: object, *, members: bool = False) -> Steps:
    """Return the steps that stand for fitted recalibrations.

    Args:
        function: Public function to name in errors.
        recalibration: One of them, several in order, or None.
        members: Whether passes are those of several networks.

    Raises:
        UnsupportedError: If one is of another kind, not fitted, or needs more than what a program
            returns.
    """
    if recalibration is None:
        return Steps()
    given: Any = recalibration if isinstance(recalibration, list | tuple) else (recalibration,)
    modules = [
        _step_of(function, each, is_first=place == 0 and not members)
        for place, each in enumerate(given)
    ]
    return Steps(tuple(given), tuple(modules))


def _step_of(function: str, each: object, *, is_first: bool) -> _Step:
    """Return the step of one recalibration; `is_first` if it is given the passes of one network."""
    kind = type(each).__name__
    if isinstance(each, TemperatureScaling):
        if each.apply_to == "mean":
            return _Temperature(each)
        if is_first:
            return _PassTemperature(each)
        found = f"{kind} of passes after another step, or of several networks"
        raise _refused(function, found, 'Fit TemperatureScaling(apply_to="mean")')
    if isinstance(each, StdScaling):
        return _StdFactor(each)
    if isinstance(each, ConformalRegressor):
        if each.method != "quantile":
            return _Interval(each, _of_all_rows(function, each.threshold))
        found = f"{kind} of method 'quantile', which needs quantiles over all passes"
        raise _refused(function, found, 'Fit ConformalRegressor("normalized")')
    if isinstance(each, ConformalClassifier):
        if each.method == "lac" or each.seed is None:
            return _Set(each, _of_all_rows(function, each.threshold))
        found = f"{kind} of method {each.method!r}, which hashes the bytes of a row"
        raise _refused(function, found, f'Fit ConformalClassifier("{each.method}", seed=None)')
    raise _refused(function, kind, "Apply it to what the program returns")


def _of_all_rows(function: str, limits: Tensor) -> Tensor:
    """Return the threshold of the only group, (D,)."""
    if len(limits) > 1:
        found = f"one for {len(limits)} groups of rows, which a program cannot tell apart"
        raise _refused(function, found, "Fit it without groups")
    return limits[0]


def _plain(each: object, **values: Any) -> dict[str, Any]:
    return {"kind": type(each).__name__, **values}


def _conformal(each: ConformalRegressor | ConformalClassifier, limit: Tensor) -> dict[str, Any]:
    return _plain(each, method=each.method, level=each.level, threshold=limit.tolist())


def _refused(function: str, found: str, remedy: str) -> McdropError:
    condition = (
        "be TemperatureScaling, StdScaling, ConformalRegressor or ConformalClassifier, computed "
        "from what a program returns alone"
    )
    return UnsupportedError.of(function, "recalibration", condition, found, remedy)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """Divide, with 0 where the divisor is 0."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
