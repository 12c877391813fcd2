"""A comparison as a picture: differences to the reference with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcdrop.checks import require_installed
from mcdrop.comparison.contents import ComparisonContents
from mcdrop.comparison.scores import MEASURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]

# Okabe & Ito (2008), told apart under the common forms of color blindness; and by marker.
_LOOKS = {
    "better": ("#009E73", "^"),
    "worse": ("#D55E00", "v"),
    "undecided": ("#5b6470", "o"),
    "identical": ("#5b6470", "s"),
}


def draw(found: ComparisonContents) -> Figure:
    """Draw one panel per judged measure, one line per method."""
    require_installed("Comparison.plot", "matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    keys, others = list(found.pairs), found.methods[1:]
    with rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        height = 1.6 + 0.38 * max(1, len(others))
        figure = Figure(figsize=(2.0 + 2.6 * len(keys), height), layout="constrained")
        panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
        for axes, key in zip(panels, keys, strict=True):
            _panel(axes, found, key, others)
        panels[0].set_yticks(range(len(others)), others)
        title = f"Difference to {found.reference}, {100 * found.level:g} % intervals"
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        _key(figure, found)
    return figure


def _panel(axes: Any, found: ComparisonContents, key: str, others: tuple[str, ...]) -> None:
    """Draw the differences of one measure."""
    better = MEASURES[key].better
    side = "← better than reference" if better == "lower" else "better than reference →"
    axes.axvline(0, color="#1d232b", linewidth=0.8)
    for row, name in enumerate(others):
        paired = found.differences[name].get(key)
        if paired is None:
            axes.text(0, row, " not stated", va="center", color="#5b6470", fontsize=9)
            continue
        color, marker = _LOOKS[found.outcomes[name][key]]
        ends = (paired.estimate.low, paired.estimate.high)
        axes.plot(ends, (row, row), color=color, linewidth=1.6)
        axes.plot(paired.estimate.value, row, marker, color=color, markersize=6)
    axes.set_title(MEASURES[key].label, fontsize=10)
    axes.set_xlabel(side, fontsize=9, color="#5b6470")
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _key(figure: Figure, found: ComparisonContents) -> None:
    """Name the markers that occur."""
    from matplotlib.lines import Line2D

    present = {o for outcomes in found.outcomes.values() for o in outcomes.values()}
    lines = [
        Line2D([], [], color=color, marker=marker, linewidth=1.6, label=name)
        for name, (color, marker) in _LOOKS.items()
        if name in present
    ]
    if lines:
        figure.legend(
            handles=lines, loc="outside lower right", ncols=len(lines), frameon=False, fontsize=9
        )
