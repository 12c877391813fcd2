"""One report of each task, shared by the tests of what writes them."""

from __future__ import annotations

import pytest

from mcdrop.report import calibration_report
from tests.report.made import Reports, class_prediction, normal_like, passes_prediction


@pytest.fixture(scope="session")
def reports() -> Reports:
    """Return one report of each task, with baselines."""
    passes, y = passes_prediction(n=120, n_samples=20)
    baseline = passes.as_normal()
    point = normal_like(passes.mean, 0 * passes.mean)
    probs, labels = class_prediction(n=200, n_samples=10)
    plain, _ = class_prediction(n=200, sharpen=3.0)
    return {
        "regression": calibration_report(
            passes, y, baselines={"Ridge": baseline, "Point": point}, n_resamples=50
        ),
        "classification": calibration_report(
            probs, labels, baselines={"L2 logistic": plain}, n_resamples=50
        ),
    }
