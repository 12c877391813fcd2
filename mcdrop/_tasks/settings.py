"""A task as the caller described it: which numbers the model returns, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypedDict, get_args

import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups, Rates
from mcdrop._engine.inputs import Prepare
from mcdrop._engine.outputs import Select, Selection
from mcdrop._engine.settings import AskedStrategy, Controls, Settings
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop._tasks.likelihoods import OutputType, class_scores
from mcdrop._tasks.regression import RegressionAccumulator
from mcdrop._tasks.tolerance import Tolerated
from mcdrop.checks import checked_noise, checked_passes, require_choice
from mcdrop.errors import RangeError

__all__ = [
    "ClassificationTask",
    "Options",
    "RegressionTask",
    "Task",
    "TaskSettings",
    "controls",
    "selection_of",
]

RegressionTask = Literal["regression", "heteroscedastic"]
ClassificationTask = Literal["classification", "binary", "multilabel"]
Task = RegressionTask | ClassificationTask
_TASKS = (*get_args(RegressionTask), *get_args(ClassificationTask))


class Options(TypedDict, total=False):
    """The options of `MCDropout.predict_with_uncertainty` besides `task`; see there."""

    n_samples: int | Literal["auto"]
    output_type: OutputType
    select: Select
    noise_std: float | Tensor | None
    keep_samples: bool
    seed: int | None
    batch_size: int | None
    sample_chunk: int | None
    device: str | torch.device | None
    dtype: torch.dtype | None
    progress: bool
    strategy: AskedStrategy
    prepare: Prepare | None
    tolerance: Tolerated
    exact_last: bool
    control_variate: Controls


class _Controls(TypedDict):
    exact_last: Controls
    redraws: bool
    scores: Callable[[Tensor], Tensor] | None
    exclusive: bool
    control_variate: Controls


def controls(
    task: Task | None,
    output_type: OutputType,
    control_variate: Controls,
    *,
    exact_last: bool,
    keep_samples: bool,
) -> _Controls:
    """Return what is to be computed exactly, as settings of the engine.

    Args:
        task: Name of the task.
        output_type: As the caller said.
        control_variate: As the caller said.
        exact_last: As the caller said.
        keep_samples: Whether all passes are kept, which need the last mask drawn.
    """
    by_itself = control_variate is not False and not keep_samples
    last: Controls = "auto" if by_itself and task in (None, "regression") else False
    classifies = task in get_args(ClassificationTask)
    binary = task in ("binary", "multilabel")
    return {
        "exact_last": exact_last or last,
        "redraws": by_itself and classifies,
        "scores": partial(class_scores, output_type=output_type, binary=binary)
        if classifies
        else None,
        "exclusive": classifies and not binary,
        "control_variate": control_variate,
    }


def selection_of(
    select: Select,
    task: Task | None,
    *,
    noise_std: float | Tensor | None,
    exact_last: bool,
    control_variate: Controls,
) -> Selection:
    """Return which tensor of the output is the prediction, and what it has to look like.

    Args:
        select: As the caller said.
        task: Name of the task; without one, a row holds one value, unless an option of regression
            says what it is.
        noise_std: As the caller said.
        exact_last: As the caller said.
        control_variate: As the caller said.
    """
    regresses = noise_std is not None or exact_last or control_variate is True
    is_single = task is None and not regresses
    return Selection(select, is_pair=task == "heteroscedastic", is_single=is_single)


@dataclass(frozen=True)
class TaskSettings:
    """A task with the settings of its passes.

    Attributes:
        engine: How the passes run.
        task: Name of the task; None if the caller named none, which stands for the regression of
            one value per row.
        output_type: Kind of number that the model returns.
        n_samples: Passes per row, or "auto" for as many as the tolerance asks for.
        noise_std: Standard deviation of the observation noise, tau^-1/2, or None.
        keep_samples: Whether all passes are kept.
        tolerance: The largest Monte Carlo standard errors, for "auto".
    """

    engine: Settings
    task: Task | None
    output_type: OutputType = "logits"
    n_samples: int | Literal["auto"] = 100
    noise_std: float | Tensor | None = None
    keep_samples: bool = False
    tolerance: Tolerated = None

    def __post_init__(self) -> None:
        function = self.engine.function
        checked_passes(
            function, self.n_samples, tolerance=self.tolerance, keep_samples=self.keep_samples
        )
        if self.task is not None:
            require_choice(function, "task", self.task, _TASKS)
        if self.task == "heteroscedastic":
            require_choice(function, "output_type", self.output_type, ("log_variance", "variance"))
        elif not self.is_regression:
            choices = ("logits", "probs", "log_probs")
            require_choice(function, "output_type", self.output_type, choices)
        plain = self.task in (None, "regression")
        if plain and self.output_type != "logits":
            raise RangeError.of(
                function,
                "output_type",
                "be left out for a regression, which takes the output as it is",
                repr(self.output_type),
                "Name the task it is for, such as task='classification'",
            )
        if self.noise_std is not None and not plain:
            raise RangeError.of(
                function,
                "noise_std",
                f"be None for task={self.task!r}",
                self.noise_std,
                "Leave it out",
            )
        if self.engine.exact_last is True and (not plain or self.keep_samples):
            raise RangeError.of(
                function,
                "exact_last",
                "be False unless task='regression', without keep_samples",
                self.engine.exact_last,
                "Leave it out: passes with their last mask drawn are needed here",
            )

    @property
    def is_regression(self) -> bool:
        """Whether the prediction is a `RegressionPrediction`."""
        return self.task is None or self.task in get_args(RegressionTask)

    def regression(self, first_row: int, exact_last: bool, rates: Rates) -> RegressionAccumulator:
        """Make the accumulator of a batch.

        Args:
            first_row: Number of its first row.
            exact_last: Whether its passes hold the variance of an integrated last dropout.
            rates: Dropout rate of every site whose masks are drawn.
        """
        return RegressionAccumulator(
            self.engine.function,
            first_row,
            self.keep_samples,
            self._groups(rates),
            noise_std=checked_noise(self.engine.function, self.noise_std),
            spread=self.output_type if self.task == "heteroscedastic" else None,
            exact_last=exact_last,
            pools_rows=self.engine.masks == "independent",
        )

    def classification(
        self, first_row: int, redrawn: bool, rates: Rates
    ) -> ClassificationAccumulator:
        """Make the accumulator of a batch.

        Args:
            first_row: Number of its first row.
            redrawn: Whether its passes hold several draws of the last dropout.
            rates: Dropout rate of every site whose masks are drawn.
        """
        return ClassificationAccumulator(
            self.engine.function,
            first_row,
            self.keep_samples,
            self._groups(rates),
            output_type=self.output_type,
            binary=self.task == "binary",
            multilabel=self.task == "multilabel",
            redrawn=redrawn,
        )

    def _groups(self, rates: Rates) -> PassGroups:
        """Return the groups of passes for the jackknife."""
        n_samples = None if self.n_samples == "auto" else self.n_samples
        return PassGroups(n_samples, stratified=self.engine.stratified, rates=rates)
