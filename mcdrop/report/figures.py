"""The figures of a report: which display draws each, its title and its caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcdrop.displays import (
    CoverageDisplay,
    ErrorByUncertaintyDisplay,
    PITDisplay,
    ReliabilityDisplay,
    SparsificationDisplay,
)
from mcdrop.displays._classification import Classification
from mcdrop.displays._convergence import ConvergenceDisplay
from mcdrop.displays._curve import Curve
from mcdrop.displays._display import Display
from mcdrop.displays._regression import Regression

__all__ = ["FIGURES", "Caption", "figure_curves"]


@dataclass(frozen=True)
class Caption:
    """One figure of a report.

    Attributes:
        display: What computes its points and draws it.
        title: Heading above the figure.
        reading: How to read it, below the figure.
        interval: What its bars or bands are, with the level to be filled in.
    """

    display: type[Display]
    title: str
    reading: str
    interval: str


_BY_UNCERTAINTY = (
    "Are uncertain rows the ones with errors?",
    "Rows sorted by stated uncertainty, in groups. A rising series means that the uncertainty "
    "tells easy rows from hard ones; a single point means that it is the same for every row. Thick "
    "dashes: the error that the first method states for the same rows.",
    "Bars: {level} intervals.",
)
_REFERRED = (
    "What does referring uncertain rows to a person save?",
    "Read off how many rows a person has to take over for a wanted error; 10 % are marked. The "
    "faster a curve falls below the dashed line, which referring random rows would keep to, the "
    "better the uncertainty ranks the rows.",
    "Band: {level} interval.",
)

FIGURES: Mapping[str, Caption] = MappingProxyType(
    {
        "reliability": Caption(
            ReliabilityDisplay,
            "Is a stated probability what happens?",
            "Rows grouped by confidence, equally many in each group. On the diagonal, predictions "
            "made with 80 % confidence are right 80 % of the time; below it the model is "
            "overconfident. A point outside its grey range may still be chance: the tests decide.",
            "Bars: {level} Wilson intervals. Grey: where {level} of points fall if calibrated "
            "(consistency band). Both for the first method.",
        ),
        "coverage": Caption(
            CoverageDisplay,
            "Do the intervals hold what they state?",
            "For each stated level, the share of targets that fell inside the interval. On the "
            "diagonal the intervals hold what they state; below it they are too narrow "
            "(overconfident), above it too wide.",
            "Band: {level} Wilson interval.",
        ),
        "pit": Caption(
            PITDisplay,
            "Where in its predicted distribution did each target fall?",
            "0 is the lowest, 1 the highest predicted value (probability integral transform). Flat "
            "bars mean that the predicted distributions have the right shape. A U shape means they "
            "are too narrow, a hump too wide, a slope that they are shifted.",
            "Bracket on the right: where the ends of {level} of bars lie if calibrated.",
        ),
        "error_by_uncertainty": Caption(ErrorByUncertaintyDisplay, *_BY_UNCERTAINTY),
        "referral": Caption(SparsificationDisplay, *_REFERRED),
        "convergence": Caption(
            ConvergenceDisplay,
            "Were there enough passes?",
            "The score of the mean over the first passes. Where the line stays close to its end, "
            "more passes would change nothing: what is left is the band, which only more rows make "
            "narrower.",
            "Band: {level} interval over rows, with all passes.",
        ),
    }
)


def figure_curves(
    methods: Mapping[str, Classification] | Mapping[str, Regression],
) -> dict[str, tuple[Curve, ...]]:
    """Return the points of every figure that the methods have any for, one curve per method."""
    curves = {}
    for figure, caption in FIGURES.items():
        found = [caption.display.points(name, judged) for name, judged in methods.items()]
        shown = tuple(curve for curve in found if curve is not None)
        if shown:
            curves[figure] = shown
    return curves
