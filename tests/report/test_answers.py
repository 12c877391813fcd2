from __future__ import annotations

import dataclasses

import pytest

from mcdrop.metrics import Estimate
from mcdrop.report.answers import comparison_answer, decided, finds_errors, repair_action, span_to
from mcdrop.report.measures import Outcome
from mcdrop.report.values import Answer, Grade, Repair, Verdict
from tests.report.test_findings import estimate, evidence


def answer(grade: Grade, word: str = "") -> Answer:
    return Answer("?", grade, word, "", "")


@pytest.mark.parametrize(
    ("calibration", "ranking", "comparison", "said"),
    [
        ("no", "yes", "yes", "Not as they are"),
        ("missing", "yes", "yes", "Not on their uncertainty"),
        ("yes", "yes", "no", "A simple method does better"),
        ("undecided", "yes", "yes", "With care"),
        ("yes", "no", "yes", "On the whole, not row by row"),
        ("yes", "yes", "undecided", "Yes, as far as"),
        ("yes", "undecided", "missing", "Yes, as far as"),
    ],
)
def test_the_worst_grade_decides(
    calibration: Grade, ranking: Grade, comparison: Grade, said: str
) -> None:
    assert decided(answer(calibration), answer(ranking), answer(comparison), 100).startswith(said)


def test_an_uncertainty_that_misleads_is_not_to_be_used_row_by_row() -> None:
    backwards = answer("no", "No: backwards")
    assert decided(answer("yes"), backwards, answer("yes"), 100) == "Not row by row"


def ranked(value: float, rejected: bool, n_rows: int) -> Answer:
    found = dataclasses.replace(
        evidence(n_rows=n_rows), verdicts={"ranking": Verdict("no link", 0.1, 0.1, rejected)}
    )
    shown = Estimate(value, value - 0.1, value + 0.1, 0.05, 0.95, n_rows, "newcombe")
    return finds_errors(shown, value < 0.5, found, "entropy", "nothing")


def test_finding_errors_is_graded_by_its_test_and_the_number_of_rows() -> None:
    assert (ranked(0.8, True, 100).grade, ranked(0.8, True, 100).word) == ("yes", "Yes")
    assert ranked(0.6, True, 100).word == "Yes, weakly"
    assert ranked(0.3, True, 100).word == "No: backwards"
    assert ranked(0.52, False, 1000).word == "No"
    few = ranked(0.52, False, 100)
    # 3 + 1.06 ((1.960 + 0.842) / atanh(0.2))^2 = 205, rounded up.
    assert (few.grade, few.word) == ("undecided", "100 rows cannot tell")
    assert few.text.endswith("About 210 rows would.")
    assert finds_errors(None, False, evidence(), "entropy", "nothing").text == "nothing"


@pytest.mark.parametrize(
    ("outcome", "grade", "word"),
    [
        ("better", "yes", "Yes"),
        ("worse", "no", "No: beaten by B"),
        ("undecided", "undecided", "Not shown to beat B"),
        ("identical", "no", "No: identical to B"),
    ],
)
def test_the_comparison_shows_the_leading_score(outcome: Outcome, grade: str, word: str) -> None:
    found = comparison_answer(evidence(nll=outcome))
    assert (found.grade, found.word) == (grade, word)
    assert found.number == "NLL -0.20 [-0.30, -0.10] against B"
    assert "NLL, minus the log of the probability" in found.text
    assert [(mark.label, mark.value) for mark in found.marks] == [("B", -0.2)]


def test_without_baselines_it_says_how_to_compare() -> None:
    alone = dataclasses.replace(evidence(), differences={}, outcomes={})
    assert comparison_answer(alone).grade == "missing"
    assert "baselines=" in comparison_answer(alone).text


def test_the_recalibration_that_gains_most_is_advised_with_what_it_brings() -> None:
    def repair(method: str, gain: Estimate) -> Repair:
        return Repair(method, {"ece": estimate(0.01, 0.0, 0.02)}, {"nll": gain})

    small, large = estimate(-0.1, -0.2, -0.05), estimate(-0.4, -0.5, -0.3)
    before = {"ece": estimate(0.1, 0.08, 0.12)}
    said = repair_action([repair("A", small), repair("B", large)], {"ece": "the ECE"}, before)
    assert said.startswith("Recalibrate with B on held-out rows.")
    assert (
        "the ECE from 10.0 % [8.0, 12.0] to 1.0 % [0.0, 2.0], NLL by -0.40 [-0.50, -0.30]" in said
    )
    vain = repair_action([repair("A", estimate(-0.1, -0.2, 0.05))], {"ece": "the ECE"}, before)
    assert vain.startswith("Recalibration brings no gain that shows: A, fitted on other rows")
    assert vain.endswith("NLL by -0.10 [-0.20, +0.05].")
    assert repair_action([], {}, before) == ""


def test_the_axis_of_a_picture_has_air_within_its_limits() -> None:
    assert span_to([0.0, 1.0]) == pytest.approx((-0.15, 1.15))
    assert span_to([0.5, 0.99], 0.0, 1.0) == pytest.approx((0.4265, 1.0))
    assert span_to([0.0]) == (-1.0, 1.0)
