"""Predictions in the forms of other programs: Arrow tables and ArviZ."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mcdrop.checks import require_installed

__all__ = ["arrow_table", "inference_data"]

Arrays = Mapping[str, npt.NDArray[Any]]


def arrow_table(function: str, columns: Arrays, index: Any) -> Any:
    """Return a pyarrow table of columns, with the labels of the rows in front if they have any.

    Args:
        function: Public function to name in errors.
        columns: One column per number of a row.
        index: pandas index of the rows, or None.

    Raises:
        UnsupportedError: If pyarrow is not installed.
    """
    require_installed(function, "pyarrow", "files")
    import pyarrow as pa

    labels: dict[str, Any] = {}
    if index is not None:
        for level, name in enumerate(index.names):
            labels[str(name or f"index_{level}")] = index.get_level_values(level).to_numpy()
    # Arrow has no big-endian and no read-only surprises, but wants contiguous memory.
    plain = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    return pa.table({**labels, **plain})


def inference_data(function: str, variable: str, passes: npt.NDArray[Any], index: Any) -> Any:
    """Return passes as the posterior predictive group of ArviZ: one chain, a draw per pass.

    Args:
        function: Public function to name in errors.
        variable: Name of what was predicted.
        passes: Draws, (S, N, ...).
        index: pandas index of the rows, or None to count them.

    Raises:
        UnsupportedError: If ArviZ is not installed.
    """
    require_installed(function, "arviz", "arviz")
    import arviz

    names = ["row", *(f"dim_{i}" for i in range(passes.ndim - 2))]
    rows = np.arange(passes.shape[1]) if index is None else np.asarray(index)
    group = {variable: passes[np.newaxis]}
    options = {"dims": {variable: names}, "coords": {"row": rows}}
    if "posterior_predictive" in inspect.signature(arviz.from_dict).parameters:
        return arviz.from_dict(posterior_predictive=group, **options)
    # ArviZ 1 returns a DataTree and takes groups in one mapping.
    return arviz.from_dict({"posterior_predictive": group}, **options)
