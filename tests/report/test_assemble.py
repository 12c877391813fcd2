from __future__ import annotations

import numpy as np
import pytest

from mcdrop.errors import ShapeError
from mcdrop.report import calibration_report
from tests.report.made import Reports, class_prediction


def test_the_slices_are_one_of_the_hypotheses_that_share_the_level(reports: Reports) -> None:
    for report in reports.values():
        assert "slices" in report.verdicts
        assert any(s.flagged for s in report.slices) == report.verdicts["slices"].rejected


def test_wishes_change_no_score() -> None:
    prediction, y = class_prediction(n=100)
    plain = calibration_report(prediction, y, n_resamples=20)
    wished = calibration_report(
        prediction, y, n_resamples=20, acceptance={"accuracy": 0.5}, ids=np.arange(100),
        groups={"g": np.arange(100) % 3}, class_names=("x", "y", "z"), shifted=prediction,
    )  # fmt: skip
    assert wished.metrics == plain.metrics
    assert wished.repairs == plain.repairs


def test_class_names_need_one_per_class() -> None:
    prediction, y = class_prediction(n=100)
    with pytest.raises(ShapeError, match="`class_names` to hold one name for each of 3 classes"):
        calibration_report(prediction, y, class_names=["a", "b"])
