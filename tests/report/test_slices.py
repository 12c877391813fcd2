from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.displays._matching import matched_classification, matched_regression
from mcdrop.errors import ShapeError
from mcdrop.report import calibration_report
from mcdrop.report.measures import Resampling
from mcdrop.report.slices import checked_groups, flagged, slice_hypothesis, slices_of
from mcdrop.report.values import Slice, Verdict
from tests.report.made import certain, class_prediction, normal_prediction
from tests.report.test_findings import estimate

DRAWS = Resampling(0.95, 20, 0)


def test_slices_of_classes_hold_their_accuracy_and_mean_confidence() -> None:
    prediction, y = class_prediction(n=300)
    judged = matched_classification({"A": prediction}, y, DRAWS)["A"]
    found = slices_of(judged, {"site": np.arange(300) % 2}, ["a", "b", "c"])
    assert [(s.group, s.label) for s in found] == [
        ("predicted class", "a"), ("predicted class", "b"), ("predicted class", "c"),
        ("site", "0"), ("site", "1"),
        ("true class", "a"), ("true class", "b"), ("true class", "c"),
    ]  # fmt: skip
    rows = prediction.labels == 1
    assert found[1].n == int(rows.sum())
    assert found[1].observed.value == (y[rows] == 1).double().mean().item()
    assert found[1].stated == pytest.approx(prediction.confidence[rows].mean().item())
    assert all((s.p_value is None) == (s.group == "true class") for s in found)


def test_slices_of_numbers_are_fifths_with_their_coverage() -> None:
    prediction, y = normal_prediction(n=200)
    judged = matched_regression({"A": prediction}, y, DRAWS)["A"]
    found = slices_of(judged, {}, None)
    assert [s.n for s in found] == [40] * 10
    rows = prediction.mean[:, 0].argsort()[:40]
    low, high = prediction.interval(0.9)
    inside = (low <= torch.from_numpy(y)) & (torch.from_numpy(y) <= high)
    assert found[0].observed.value == inside[rows].double().mean().item()
    assert found[0].stated == 0.9


def test_the_slices_count_once_on_the_page_and_each_flag_pays_for_all() -> None:
    parts = [
        Slice("g", str(i), 9, estimate(0.5, 0.4, 0.6), 0.9, p) for i, p in enumerate([0.001, 0.4])
    ]
    described = Slice("t", "0", 9, estimate(0.5, 0.4, 0.6), 0.9, None)
    slices = [*parts, described]
    hypothesis = slice_hypothesis(slices, "regression")["slices"]
    assert hypothesis.p_value == 0.002  # 2 * 0.001
    # Adjusted threefold on the page: 0.006 for the first, 0.4 * 3 for the second.
    marked = flagged(slices, Verdict("", 0.002, 0.006, True), 0.05)
    assert marked[0].adjusted == pytest.approx(0.006)
    assert [s.flagged for s in marked] == [True, False, False]
    assert marked[1].adjusted == 1.0
    assert slice_hypothesis([described], "regression") == {}


def test_one_site_that_is_off_is_found_and_heads_the_page() -> None:
    draw = np.random.default_rng(0)
    site = np.repeat(["north", "south"], 1000)
    right = draw.random(2000) < np.where(site == "north", 0.98, 0.82)
    probs = torch.tensor([[0.9, 0.1]] * 2000, dtype=torch.float64)
    report = calibration_report(
        certain(probs), 1 - right.astype(int), groups={"site": site}, n_resamples=20
    )
    assert not report.verdicts["confidence"].rejected
    off = {s.label for s in report.slices if s.flagged}
    assert off == {"north", "south"}
    assert report.headline.startswith("Off where the site is")
    assert report.answers[0].word.startswith("No: off where the site is")


def test_many_groups_are_taken_together() -> None:
    prediction, y = class_prediction(n=400)
    judged = matched_classification({"A": prediction}, y, DRAWS)["A"]
    found = [s for s in slices_of(judged, {"user": np.arange(400) % 40}, None) if s.group == "user"]
    assert len(found) == 20
    assert found[-1].label == "all others"
    assert sum(s.n for s in found) == 400


def test_columns_need_a_value_per_row() -> None:
    with pytest.raises(
        ShapeError, match=r'`groups\["site"\]` to have shape \(3,\), one value per row'
    ):
        checked_groups({"site": [1, 2]}, 3)


@pytest.mark.parametrize("n", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_calibrated_slices_are_flagged_no_more_often_than_said(n: int) -> None:
    alarms = 0
    for seed in range(300):
        prediction, y = class_prediction(n=n, seed=seed)
        judged = matched_classification({"A": prediction}, y, DRAWS)["A"]
        found = slices_of(judged, {"g": np.arange(n) % 4}, None)
        alarms += slice_hypothesis(found, "classification")["slices"].p_value <= 0.05
    assert alarms / 300 <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
