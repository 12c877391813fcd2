"""Displays for papers and notebooks, in scikit-learn's convention.

Each has ``from_predictions(y_true, prediction, *, name=None, ax=None)`` and ``plot(ax=None)``, and
leaves `ax_`, `figure_` and `line_`. Calls on the same axes put several methods into one figure: the
first with its intervals, the others as lines. The calibration report draws with them.
"""

from mcdrop.displays.coverage import CoverageDisplay
from mcdrop.displays.error_by_uncertainty import ErrorByUncertaintyDisplay
from mcdrop.displays.pit import PITDisplay
from mcdrop.displays.pixel_maps import PixelMapDisplay
from mcdrop.displays.reliability import ReliabilityDisplay
from mcdrop.displays.sparsification import SparsificationDisplay

__all__ = [
    "CoverageDisplay",
    "ErrorByUncertaintyDisplay",
    "PITDisplay",
    "PixelMapDisplay",
    "ReliabilityDisplay",
    "SparsificationDisplay",
]
