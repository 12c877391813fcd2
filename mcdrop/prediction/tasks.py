"""What a task makes of the passes: which accumulator, with which settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from mcdrop.engine.checks import check_choice, checked_noise
from mcdrop.engine.moments import PassGroups
from mcdrop.engine.outputs import Select, select_output
from mcdrop.errors import RangeError
from mcdrop.prediction.accumulate import ClassificationAccumulator, RegressionAccumulator
from mcdrop.prediction.likelihoods import Outputs, paired

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
        outputs: What the model returns.
        noise_std: Standard deviation of the observation noise, or None.
        keep_samples: Whether all passes are kept.
        groups: Which passes are set against one another.
    """

    function: str
    task: Task
    outputs: Outputs
    noise_std: float | Tensor | None
    keep_samples: bool
    groups: PassGroups

    def __post_init__(self) -> None:
        check_choice(self.function, "task", self.task, _TASKS)
        if self.task == "heteroscedastic":
            check_choice(self.function, "outputs", self.outputs, ("log_variance", "variance"))
        elif self.task != "regression":
            check_choice(self.function, "outputs", self.outputs, ("logits", "probs", "log_probs"))
        if self.noise_std is not None and self.task != "regression":
            raise RangeError.of(
                self.function,
                "noise_std",
                f"be None for task={self.task!r}",
                self.noise_std,
                "Leave it out",
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

    def regression(self) -> Callable[[int], RegressionAccumulator]:
        """Return what makes an accumulator, given the number of its first row."""
        noise = checked_noise(self.function, self.noise_std)
        spread = self.outputs if self.task == "heteroscedastic" else None
        return lambda row: RegressionAccumulator(
            self.function, row, self.keep_samples, self.groups, noise_std=noise, spread=spread
        )

    def classification(self) -> Callable[[int], ClassificationAccumulator]:
        """Return what makes an accumulator, given the number of its first row."""
        return lambda row: ClassificationAccumulator(
            self.function,
            row,
            self.keep_samples,
            self.groups,
            outputs=self.outputs,
            binary=self.task == "binary",
            multilabel=self.task == "multilabel",
        )
