"""Style, titles and captions of all figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mcdrop.report.values import FigureCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FIGURES",
    "Caption",
    "Look",
    "blank",
    "calibrated_bars",
    "diagonal",
    "house_style",
    "key_above",
    "looks",
    "percent",
    "points",
    "span_of",
]

# At this size 10 pt text stays legible when the figure is scaled to the width of a phone.
_SIZE = (5.2, 4.2)
_INK = "#1d232b"
_GREY = "#5b6470"
# Okabe & Ito (2008), told apart under the common forms of color blindness.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (9, 3)), (0, (3, 1, 1, 1, 1, 1)))
# Width of the range of a calibrated bin, in percent of confidence; bins are 6.7 wide.
_BAND_WIDTH = 3.0
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    # Text stays text: screen readers and search can read it, and it follows the font of the page.
    "svg.fonttype": "none",
    # Fixed, so that the same report is the same file.
    "svg.hashsalt": "mcdrop",
}


@dataclass(frozen=True)
class Caption:
    """Title, axis labels and caption of one figure.

    Attributes:
        title: Heading above the figure.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        reading: How to read it, below the figure.
        interval: What its bars or bands are, with the level to be filled in.
    """

    title: str
    x: str
    y: str
    reading: str
    interval: str


@dataclass(frozen=True)
class Look:
    """Color, line and marker of one method, the same in every figure."""

    color: str
    dashes: Any
    marker: str
    main: bool


def looks(
    curves: Sequence[FigureCurve], methods: Sequence[str]
) -> Iterator[tuple[FigureCurve, Look]]:
    """Pair every curve with the look of its method; the first method is the main one."""
    for curve in curves:
        i = list(methods).index(curve.method)
        k = i % len(_COLORS)
        yield curve, Look(_COLORS[k], _DASHES[k], _MARKERS[k], main=i == 0)


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the report's style; restore the caller's settings afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def blank(caption: Caption) -> tuple[Figure, Axes]:
    """Return an empty figure with labeled axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE)
    axes = figure.add_subplot()
    axes.set(xlabel=caption.x, ylabel=caption.y)
    return figure, axes


def points(axes: Axes, curve: FigureCurve, look: Look, *, weighed: bool = False) -> Any:
    """Draw a curve as joined markers, the main method with its intervals.

    Args:
        axes: Where to draw.
        curve: The points.
        look: Color, line and marker.
        weighed: Draw markers that rest on more rows larger, and no intervals for baselines.
    """
    from matplotlib.lines import Line2D

    width, layer = (1.8, 4.0) if look.main else (1.2, 3.0)
    face = look.color if look.main else "white"
    style: dict[str, Any] = {"color": look.color, "linestyle": look.dashes, "linewidth": width}
    axes.plot(curve.x, curve.y, zorder=layer, **style)
    largest = max(curve.count, default=1)
    sizes = [12 + 60 * n / largest if weighed else 28.0 for n in curve.count]
    axes.scatter(
        curve.x, curve.y, sizes, color=face, edgecolor=look.color, marker=look.marker,
        linewidth=1.2, zorder=layer + 0.1, clip_on=False,
    )  # fmt: skip
    if look.main or not weighed:
        bar = 1.4 if look.main else 0.7
        axes.vlines(curve.x, curve.low, curve.high, color=look.color, linewidth=bar, zorder=2.5)
    return Line2D([], [], marker=look.marker, markersize=5, markerfacecolor=face, **style)


def diagonal(axes: Axes, low: float, high: float) -> Any:
    """Draw the diagonal, where the observed value equals the stated one."""
    return axes.plot([low, high], [low, high], color=_INK, linewidth=1, zorder=2)[0]


def calibrated_bars(axes: Axes, curve: FigureCurve) -> Any:
    """Draw, behind each point, the range of heights it would have if calibrated."""
    heights = [
        high - low for low, high in zip(curve.calibrated_low, curve.calibrated_high, strict=True)
    ]
    style: dict[str, Any] = {"color": _INK, "alpha": 0.12, "linewidth": 0, "zorder": 2.2}
    return axes.bar(curve.x, heights, _BAND_WIDTH, bottom=list(curve.calibrated_low), **style)


def percent(curve: FigureCurve, *, x: bool = True) -> FigureCurve:
    """Return the curve with its shares in percent; `x` says whether x is a share too."""
    return replace(
        curve,
        x=_hundredfold(curve.x) if x else curve.x,
        y=_hundredfold(curve.y),
        low=_hundredfold(curve.low),
        high=_hundredfold(curve.high),
        calibrated_low=_hundredfold(curve.calibrated_low),
        calibrated_high=_hundredfold(curve.calibrated_high),
    )


def _hundredfold(shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(100 * share for share in shares)


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """Return axis limits 6 % beyond `values`."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - air, high + air


def key_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the key above the axes, where it cannot cover data, in as many columns as fit."""
    shown = [label if len(label) <= 40 else label[:39] + "…" for label in labels]
    # A leading underscore would hide the entry from the key.
    shown = [f" {label}" if label.startswith("_") else label for label in shown]
    columns = len(shown)
    # A row holds about 62 letters at this size; 6 of them go to each line sample.
    while columns > 1 and sum(len(label) + 6 for label in shown[:columns]) > 62:
        columns -= 1
    # The key is filled by columns; reading goes by rows.
    order = sorted(range(len(shown)), key=lambda i: (i % columns, i))
    key = figure.legend(
        [handles[i] for i in order],
        [shown[i] for i in order],
        loc="outside upper left",
        ncols=columns,
        fontsize=9,
        handlelength=2.4,
    )
    for text in key.get_texts():
        text.set_parse_math(False)


FIGURES: Mapping[str, Caption] = MappingProxyType(
    {
        "coverage": Caption(
            "Do the intervals hold what they state?",
            "Stated coverage of the interval (%)",
            "Observed share of targets inside (%)",
            "For each stated level, the share of targets that fell inside the interval. On the "
            "diagonal the intervals hold what they state; below it they are too narrow "
            "(overconfident), above it too wide.",
            "Band: {level} Wilson interval.",
        ),
        "error_by_std": Caption(
            "Are uncertain rows the ones with large errors?",
            "Stated standard deviation (units of y)",
            "Observed RMSE (units of y)",
            "Rows grouped by their stated standard deviation. On the diagonal the error is as "
            "large as stated; above it larger. A rising series means the uncertainty tells easy "
            "rows from hard ones; a single point means it is the same for every row.",
            "Bars: {level} intervals.",
        ),
        "pit": Caption(
            "Where in its predicted distribution did each target fall?",
            "Probability integral transform of the target",
            "Share of targets (%)",
            "Flat bars mean that the predicted distributions have the right shape. A U shape "
            "means they are too narrow, a hump too wide, a slope that they are shifted.",
            "Grey: where {level} of bars fall if calibrated.",
        ),
        "reliability": Caption(
            "Is a stated probability what happens?",
            "Confidence in the predicted class (%)",
            "Accuracy (%)",
            "Rows grouped by confidence. On the diagonal, predictions made with 80 % confidence "
            "are right 80 % of the time; below it the model is overconfident. Larger markers rest "
            "on more rows; the lower panel counts those of the first method.",
            "Bars: {level} Wilson intervals. Grey: where {level} of points fall if calibrated "
            "(consistency band). Both for the first method.",
        ),
        "error_by_entropy": Caption(
            "Are uncertain rows the wrong ones?",
            "Predictive entropy (nats)",
            "Error rate (%)",
            "Rows grouped by predictive entropy. A rising series means that the uncertainty "
            "points at the rows that are likely to be wrong.",
            "Bars: {level} Wilson intervals.",
        ),
        "referral": Caption(
            "What does referring uncertain rows to a person save?",
            "Share of rows referred, most uncertain first (%)",
            "Error rate on the rows kept (%)",
            "Read off how many rows a person has to take over for a wanted error rate. The faster "
            "a curve falls, the better the uncertainty ranks the rows.",
            "Band: {level} Wilson interval.",
        ),
    }
)
