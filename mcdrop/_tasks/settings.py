"""What a task makes of the passes: which accumulator, with which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from mcdrop._engine.moments import PassGroups
from mcdrop._engine.outputs import Select, select_output
from mcdrop._engine.schedule import Sampler
from mcdrop._engine.work import Accumulator
from mcdrop._tasks.accumulate import (
    ClassificationAccumulator,
    RegressionAccumulator,
    joined,
)
from mcdrop._tasks.likelihoods import OutputType, paired
from mcdrop._tasks.tolerance import AnyPrediction, Tolerance, Tolerated, in_row_order
from mcdrop.checks import checked_noise, require_choice
from mcdrop.errors import RangeError
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["ClassificationTask", "RegressionTask", "Task", "TaskSettings"]

RegressionTask = Literal["regression", "heteroscedastic"]
ClassificationTask = Literal["classification", "binary", "multilabel"]
Task = RegressionTask | ClassificationTask
_TASKS = (*get_args(RegressionTask), *get_args(ClassificationTask))


@dataclass(frozen=True)
class TaskSettings:
    """A task as the caller described it.

    Attributes:
        function: Public function to name in errors.
        task: Name of the task.
        output_type: What the model returns.
        noise_std: Standard deviation of the observation noise, or None.
        keep_samples: Whether all passes are kept.
        groups: Which passes are set against one another.
        exact_last: Whether the last dropout is integrated in closed form.
    """

    function: str
    task: Task
    output_type: OutputType
    noise_std: float | Tensor | None
    keep_samples: bool
    groups: PassGroups
    exact_last: bool = False

    def __post_init__(self) -> None:
        require_choice(self.function, "task", self.task, _TASKS)
        if self.task == "heteroscedastic":
            require_choice(
                self.function, "output_type", self.output_type, ("log_variance", "variance")
            )
        elif self.task != "regression":
            require_choice(
                self.function, "output_type", self.output_type, ("logits", "probs", "log_probs")
            )
        if self.noise_std is not None and self.task != "regression":
            raise RangeError.of(
                self.function,
                "noise_std",
                f"be None for task={self.task!r}",
                self.noise_std,
                "Leave it out",
            )

        if self.exact_last and (self.task != "regression" or self.keep_samples):
            raise RangeError.of(
                self.function,
                "exact_last",
                "be False unless task='regression', without keep_samples",
                self.exact_last,
                "Leave it out: passes with their last mask drawn are needed here",
            )

    @property
    def is_regression(self) -> bool:
        """Whether the prediction is a `RegressionPrediction`."""
        return self.task in get_args(RegressionTask)

    def select(self, select: Select) -> Select:
        """Return the selection that gives the accumulators what they need."""
        if self.task != "heteroscedastic":
            return select

        def side_by_side(output: Any) -> Tensor:
            return paired(self.function, select_output(output, select))

        return side_by_side

    def predict(
        self, sampler: Sampler, inputs: Any, passes: int | None, tolerance: Tolerated
    ) -> RegressionPrediction | ClassificationPrediction:
        """Run the passes and return the prediction.

        Args:
            sampler: Runs them.
            inputs: Whatever `InputReader` takes.
            passes: Passes per row; None for as many as the tolerance asks for.
            tolerance: The largest standard errors.
        """
        if self.is_regression:
            return _run(sampler, inputs, passes, self.regression(), tolerance, True)
        return _run(sampler, inputs, passes, self.classification(), tolerance, False)

    def regression(self) -> Callable[[int], RegressionAccumulator]:
        """Return what makes an accumulator, given the number of its first row."""
        noise = checked_noise(self.function, self.noise_std)
        spread = self.output_type if self.task == "heteroscedastic" else None
        return lambda row: RegressionAccumulator(
            self.function,
            row,
            self.keep_samples,
            self.groups,
            noise_std=noise,
            spread=spread,
            exact_last=self.exact_last,
        )

    def classification(self) -> Callable[[int], ClassificationAccumulator]:
        """Return what makes an accumulator, given the number of its first row."""
        return lambda row: ClassificationAccumulator(
            self.function,
            row,
            self.keep_samples,
            self.groups,
            output_type=self.output_type,
            binary=self.task == "binary",
            multilabel=self.task == "multilabel",
        )


def _run(
    sampler: Sampler,
    inputs: Any,
    passes: int | None,
    make: Callable[[int], Accumulator[AnyPrediction]],
    tolerance: Tolerated,
    is_regression: bool,
) -> AnyPrediction:
    """Run a number of passes, or as many as the tolerance asks for."""
    if passes is not None:
        whole, run = sampler.run(inputs, passes, make, joined)
        return replace(whole, run=run)
    stop: Tolerance[AnyPrediction] = Tolerance(sampler.function, tolerance, is_regression)
    rows, run = sampler.run_until(inputs, make, stop.settled)
    return replace(in_row_order(sampler.function, rows), run=run)
