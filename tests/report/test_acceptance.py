from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import beta

from mcdrop.errors import RangeError
from mcdrop.report import calibration_report
from tests.report.made import class_prediction, normal_prediction


def outcomes(acceptance: dict[str, Any], n: int = 400, stated: float = 1.0) -> dict[str, str]:
    prediction, y = normal_prediction(n=n, stated=stated)
    report = calibration_report(prediction, y, acceptance=acceptance, n_resamples=20)
    return {check.metric: check.outcome for check in report.acceptance}


def test_an_interval_inside_passes_outside_fails_and_across_is_undecided() -> None:
    assert outcomes({"coverage_90": (0.8, 0.99)}) == {"coverage_90": "pass"}
    assert outcomes({"coverage_90": (0.85, 0.95)}, stated=0.4) == {"coverage_90": "fail"}
    assert outcomes({"coverage_90": (0.85, 0.95)}, n=20) == {"coverage_90": "undecided"}


def test_one_number_bounds_the_better_way() -> None:
    found = outcomes({"rmse": 100.0, "auroc_error": 0.99, "crps": 1e-9})
    assert found == {"rmse": "pass", "auroc_error": "fail", "crps": "fail"}


def test_the_level_is_shared_by_all_criteria() -> None:
    acceptance: dict[str, Any] = {"accuracy": 0.5, "brier": 1.0, "nll": 9.0, "ece": (0.0, 1.0)}
    prediction, y = class_prediction(n=200)
    report = calibration_report(prediction, y, acceptance=acceptance, n_resamples=20)
    check = report.acceptance[0]
    assert check.estimate is not None
    hits = round(check.estimate.value * 200)
    # Clopper & Pearson at 1 - 0.05 / 4.
    assert check.estimate.low == pytest.approx(float(beta.ppf(0.00625, hits, 201 - hits)))
    assert report.accepted == "pass"
    wider = report.acceptance[3].estimate
    assert wider is not None
    assert wider.high - wider.low > report.metrics["ece"].high - report.metrics["ece"].low


def test_what_cannot_be_had_is_undecided_with_the_reason_and_the_worst_counts() -> None:
    prediction, y = class_prediction(n=60)
    right = calibration_report(
        prediction, prediction.labels, acceptance={"auroc_error": 0.7}, n_resamples=20
    )
    assert right.acceptance[0].reason == "all rows are right"
    assert right.accepted == "undecided"
    both = {"auroc_error": 0.0, "accuracy": 0.999}
    assert calibration_report(prediction, y, acceptance=both, n_resamples=20).accepted == "fail"
    assert calibration_report(prediction, y, n_resamples=20).accepted is None


@pytest.mark.parametrize(
    ("acceptance", "said"),
    [
        (
            {"covrage": 0.9},
            "`acceptance` to name metrics among .*'coverage_90'.*, but got 'covrage'",
        ),
        ({"coverage_90": 0.9}, r'`acceptance\["coverage_90"\]` to be a pair .* but got 0\.9'),
        ({"rmse": (2, 1)}, r"a number or a pair \(low, high\) with low <= high, but got \(2, 1\)"),
        ({"rmse": (1, 2, 3)}, r"but got \(1, 2, 3\)"),
        ({"rmse": "1"}, "but got '1'"),
        ({"rmse": None}, "but got None"),
        ({"rmse": float("nan")}, "to hold numbers, but got NaN"),
    ],
)
def test_criteria_that_are_none_are_refused(acceptance: dict[str, Any], said: str) -> None:
    prediction, y = normal_prediction(n=40)
    with pytest.raises(RangeError, match=said):
        calibration_report(prediction, y, acceptance=acceptance)
