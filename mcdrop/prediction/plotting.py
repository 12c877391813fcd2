"""A prediction as a picture or a table, for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mcdrop.checks import require_installed
from mcdrop.errors import OutputError, ShapeError
from mcdrop.prediction.targets import numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_band", "table_html"]

_ROWS = 5


def plot_band(prediction: Any, x: Any, *, ax: Axes | None, level: float, name: str | None) -> Axes:
    """Draw the predictive mean with its central interval over a one-dimensional input."""
    function = "RegressionPrediction.plot"
    require_installed(function, "matplotlib", "report")
    at = numbers(function, "x", x).reshape(-1).cpu().numpy()
    n_rows = len(prediction)
    if len(at) != n_rows or prediction.mean.numel() != n_rows:
        found = f"{len(at)} values for a mean of shape {tuple(prediction.mean.shape)}"
        raise ShapeError.of(
            function,
            "x",
            "hold one number per row of a prediction with one output",
            found,
            "Pass the one-dimensional input, and one output at a time",
        )
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(layout="constrained")
    try:
        low, high = prediction.interval(level)
    except OutputError:  # passes were not kept: the normal of the same mean and variance
        low, high = prediction.as_normal().interval(level)
    order = np.argsort(at, kind="stable")
    line, ends = (
        [values.detach().cpu().double().numpy().reshape(-1)[order] for values in part]
        for part in ([prediction.mean], [low, high])
    )
    drawn = ax.plot(at[order], line[0], label=name or "predictive mean")[0]
    label = f"{100 * level:g} % interval"
    ax.fill_between(at[order], *ends, alpha=0.2, color=drawn.get_color(), lw=0, label=label)
    ax.legend(frameon=False)
    return ax


def table_html(title: str, columns: dict[str, Any], n_rows: int) -> str:
    """Return the first rows as an HTML table with a caption; numbers with four digits."""
    shown = {name: np.asarray(values).reshape(n_rows, -1) for name, values in columns.items()}
    flat = {
        (name if values.shape[1] == 1 else f"{name}_{i}"): values[:_ROWS, i]
        for name, values in shown.items()
        for i in range(min(values.shape[1], _ROWS))
    }
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["row", *flat])
    lines = []
    for row in range(min(n_rows, _ROWS)):
        cells = "".join(f"<td>{values[row]:.4g}</td>" for values in flat.values())
        lines.append(f'<tr><th scope="row">{row}</th>{cells}</tr>')
    more = f"<p>{n_rows - _ROWS} more rows</p>" if n_rows > _ROWS else ""
    return (
        f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{more}"
    )
