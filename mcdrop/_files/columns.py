"""Which columns of a table are inputs and ids, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop._disk.faults import wrong
from mcdrop.errors import McdropError, NonFiniteError, RangeError, UnsupportedError

__all__ = ["FUNCTION", "Columns", "first_bad", "is_number", "not_finite", "not_numeric"]

FUNCTION = "predict_file"


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Attributes:
        inputs: Inputs of the model, in the order in which it takes them.
        ids: Columns that are copied beside the predictions.
    """

    inputs: tuple[str, ...]
    ids: tuple[str, ...]

    @classmethod
    def of(
        cls, path: Path, names: Sequence[str], inputs: Sequence[str] | None, ids: Sequence[str]
    ) -> Columns:
        """Choose columns; every one that is no id is an input unless they are named.

        Raises:
            UnsupportedError: If two columns of the file have one name.
            RangeError: If a column is missing, named twice, or none is left as an input.
        """
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            condition = "have columns of different names"
            raise wrong(path, condition, f"{twice} twice", "Rename them", function=FUNCTION)
        for argument, asked in (("columns", inputs or ()), ("id_columns", ids)):
            missing = [name for name in asked if name not in names]
            if missing or len(set(asked)) < len(asked):
                raise RangeError.of(
                    FUNCTION,
                    argument,
                    f"name different columns of {path.name}, which are {list(names)}",
                    missing or list(asked),
                    "Correct the names",
                )
        chosen = [name for name in names if name not in ids] if inputs is None else list(inputs)
        if not chosen:
            raise RangeError.of(
                FUNCTION,
                "columns",
                f"leave inputs among the columns of {path.name}, which are {list(names)}",
                "none",
                "Name the inputs of the model",
            )
        return cls(tuple(chosen), tuple(ids))

    @property
    def read(self) -> list[str]:
        """Every column that is read, once."""
        return list(dict.fromkeys([*self.inputs, *self.ids]))

    def numbers(self, table: Any) -> npt.NDArray[Any]:
        """Return the inputs side by side, (n, K), in one dtype; empty cells are NaN."""
        columns = [table[name].to_numpy() for name in self.inputs]
        whole = np.empty((table.num_rows, len(columns)), dtype=np.result_type(*columns))
        for place, column in enumerate(columns):
            whole[:, place] = column
        return whole


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is an integer, floating point number or truth value."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def first_bad(inputs: npt.NDArray[Any]) -> tuple[int, ...] | None:
    """Return the place of the first NaN or infinity, row first; None if there is none."""
    if inputs.dtype.kind != "f":
        return None
    bad = np.argwhere(~np.isfinite(inputs))
    return tuple(map(int, bad[0])) if len(bad) else None


def not_numeric(path: Path, found: str) -> McdropError:
    """Return the error about text and other kinds among the inputs."""
    return UnsupportedError.of(
        FUNCTION,
        "columns",
        f"hold numbers in {path.name}",
        found,
        "Write numbers, name the column in `id_columns`, or leave it out of `columns`",
    )


def not_finite(path: Path, value: object, place: str) -> McdropError:
    """Return the error about an empty cell, NaN or infinity."""
    return NonFiniteError.of(
        FUNCTION,
        "data",
        "hold finite numbers",
        f"{value} in {place} of {path.name}",
        "Fill it in, or leave the row out, and call again: finished rows are kept",
    )
