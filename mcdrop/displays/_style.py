"""The look of all figures: colors, lines, markers, the key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GREY",
    "GRID",
    "INK",
    "PALETTE",
    "Look",
    "blank",
    "house_style",
    "key_above",
    "look_of",
    "next_look",
    "span_of",
]

# A page scales a figure of this width to that of a phone by 0.93: 13.5 units are 12.5 pixels.
_SIZE = (5.4, 4.5)
_FONT_SIZE = 13.5
INK = "#1d232b"
GREY = "#5b6470"
GRID = "#e3e6ea"
# Okabe & Ito (2008), told apart under the common forms of color blindness.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
# Letters that fit beside each other above the axes; a line sample takes as much as 6 of them.
_KEY_WIDTH = 44
_SAMPLE_WIDTH = 6
_LONGEST_NAME = 30
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": _FONT_SIZE,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": _FONT_SIZE,
    "xtick.labelsize": _FONT_SIZE,
    "ytick.labelsize": _FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "legend.fontsize": _FONT_SIZE,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    # Text stays text: screen readers and search can read it, and it follows the font of the page.
    "svg.fonttype": "none",
    # Fixed, so that the same report is the same file.
    "svg.hashsalt": "mcdrop",
}


@dataclass(frozen=True)
class Look:
    """Color, line and marker of one method, the same in every figure.

    Attributes:
        color: Of lines and markers.
        dashes: Line style as matplotlib takes it.
        marker: Marker as matplotlib takes it.
        main: Whether intervals and ranges are drawn as well: of one method per figure, so that
            they can be told apart.
    """

    color: str
    dashes: Any
    marker: str
    main: bool


def look_of(index: int) -> Look:
    """Return the look of the method with this index; the first is the main one."""
    k = index % len(PALETTE)
    return Look(PALETTE[k], _DASHES[k], _MARKERS[k], main=index == 0)


def next_look(axes: Axes) -> tuple[Look, bool]:
    """Return the next look on axes that displays share, and whether it is the first there."""
    drawn: int = getattr(axes, "_mcdrop_displays", 0)
    axes._mcdrop_displays = drawn + 1  # type: ignore[attr-defined]
    return look_of(drawn), drawn == 0


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style; restore the caller's settings afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def blank() -> tuple[Figure, Axes]:
    """Return an empty figure, free of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE)
    return figure, figure.add_subplot()


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """Return axis limits 6 % beyond `values`."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - air, high + air


def key_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the key above the axes, where it cannot cover data, in as many columns as fit."""
    longest = _LONGEST_NAME
    shown = [label if len(label) <= longest else f"{label[: longest - 1]}…" for label in labels]
    # A leading underscore would hide the entry from the key.
    shown = [f" {label}" if label.startswith("_") else label for label in shown]
    columns = len(shown)
    while columns > 1 and _too_wide(shown, columns):
        columns -= 1
    # The key is filled by columns; reading goes by rows.
    order = sorted(range(len(shown)), key=lambda i: (i % columns, i))
    key = figure.legend(
        [handles[i] for i in order],
        [shown[i] for i in order],
        loc="outside upper left",
        ncols=columns,
        handlelength=1.8,
        columnspacing=1.0,
    )
    for text in key.get_texts():
        text.set_parse_math(False)


def _too_wide(labels: Sequence[str], columns: int) -> bool:
    """Whether the widest labels of `columns` columns do not fit beside each other."""
    widths = [max(len(label) for label in labels[i::columns]) for i in range(columns)]
    return sum(width + _SAMPLE_WIDTH for width in widths) > _KEY_WIDTH
