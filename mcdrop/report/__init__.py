"""The calibration report: how far a stated uncertainty can be trusted, and against what."""

from mcdrop.report.build import calibration_report
from mcdrop.report.report import CalibrationReport

__all__ = ["CalibrationReport", "calibration_report"]
