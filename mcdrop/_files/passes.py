"""The predictions of one block of rows, and the first row at which a model fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mcdrop._files.blocks import Block
from mcdrop._files.columns import FUNCTION
from mcdrop._tasks.predict import predict
from mcdrop._tasks.settings import TaskSettings
from mcdrop.errors import McdropError, NonFiniteError, OutputError
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["BlockPredictor", "Predicted"]

Predicted = RegressionPrediction | ClassificationPrediction

# What the code of a model raises for a row that it cannot handle.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class BlockPredictor:
    """Predicts blocks with masks that belong to the numbers of their rows.

    Attributes:
        settings: The task and how its passes run.
        source: Name of the file, for errors.
        place: Where a row lies in it.
    """

    settings: TaskSettings
    source: str
    place: Callable[[int], str]

    def __call__(self, block: Block) -> Predicted:
        """Return the predictions of a block.

        Raises:
            NonFiniteError: If the model returns NaN or infinity; the text names the first row.
            OutputError: If the model fails at some row; the text names the first one.
            McdropError: What `predict_with_uncertainty` raises where every row is at fault.
        """
        try:
            return self._predict(block)
        except _FAILURES as error:
            row = self._first_failing(block)
            if row is None:
                raise
            raise self._at(block.first + row, error) from error

    def _predict(self, block: Block) -> Predicted:
        engine = replace(self.settings.engine, first_row=block.first)
        return predict(replace(self.settings, engine=engine), block.inputs)

    def _first_failing(self, block: Block) -> int | None:
        """Return the first row that fails by itself; None if all fail, or only several together."""
        n_rows = len(block)
        every = block.first == 0 and self._fails(block, 0, 1)
        if every and self._fails(block, n_rows - 1, n_rows):
            return None
        low, high = 0, n_rows
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails(block, low, middle):
                high = middle
            elif self._fails(block, middle, high):
                low = middle
            else:
                return None
        return low

    def _fails(self, block: Block, begin: int, end: int) -> bool:
        part = block.rows(begin, end)
        if len(part) == 1:
            # Twice, as many exported programs do not take a single row.
            part = replace(part, inputs=np.concatenate([part.inputs, part.inputs]))
        try:
            self._predict(part)
        except _FAILURES:
            return True
        return False

    def _at(self, row: int, error: Exception) -> McdropError:
        where = f"{self.place(row)} of {self.source}"
        remedy = "Correct the row or the model, and call again: finished rows are kept"
        if isinstance(error, NonFiniteError):
            # Its text counts rows from the beginning of the block.
            condition = "return finite numbers for every row"
            return NonFiniteError.of(
                FUNCTION, "model", condition, f"NaN or infinity for {where}", remedy
            )
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".")
        found = f"{type(error).__name__} at {where} ({reason})"
        return OutputError.of(FUNCTION, "model", "predict every row", found, remedy)
