from __future__ import annotations

import pytest
import torch

from mcdrop.metrics import Estimate
from mcdrop.report.measures import (
    MEASURES,
    Score,
    decimals,
    identical,
    magnitude,
    outcome,
    signed,
    written,
)


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, standard_error=0.1, level=0.95, n=100, method="bca")


@pytest.mark.parametrize(
    ("key", "low", "high", "rejected", "said"),
    [
        ("nll", -0.3, -0.1, True, "better"),
        ("nll", 0.1, 0.3, True, "worse"),
        ("nll", -0.3, -0.1, False, "undecided"),
        ("nll", -0.1, 0.3, False, "undecided"),
        ("nll", 0.0, 0.0, False, "undecided"),
        ("accuracy", 0.1, 0.3, True, "better"),
        ("accuracy", -0.3, -0.1, True, "worse"),
        ("sharpness", 0.1, 0.3, False, "descriptive"),
    ],
)
def test_an_outcome_follows_direction_and_needs_a_rejection(
    key: str, low: float, high: float, rejected: bool, said: str
) -> None:
    assert outcome(key, estimate((low + high) / 2, low, high), rejected) == said


def test_identical_means_in_every_row_not_on_average() -> None:
    rows = torch.tensor([1.0, 2.0, 3.0])
    assert identical(Score.by_row(rows), Score.by_row(rows.clone()))
    assert not identical(Score.by_row(rows), Score.by_row(rows.flip(0)))
    assert identical(Score(len, (rows,)), Score(len, (rows.clone(),)))
    assert not identical(Score(len, (rows,)), Score(len, (rows.flip(0),)))


def test_two_digits_of_the_interval_are_shown() -> None:
    assert written("rmse", estimate(54.123, 48.7, 60.2)) == "54 [49, 60]"
    assert written("nll", estimate(5.4123, 5.3456, 5.5789)) == "5.41 [5.35, 5.58]"
    assert written("coverage_90", estimate(0.8412, 0.801, 0.882)) == "84.1 % [80.1, 88.2]"
    assert written("coverage_90", estimate(0.8412, 0.70, 0.882)) == "84 % [70, 88]"


def test_differences_carry_signs_and_their_magnitude_does_not() -> None:
    difference = estimate(-0.12, -0.20, -0.05)
    assert signed("nll", difference) == "-0.12 [-0.20, -0.05]"
    assert magnitude("nll", difference) == "0.12 [0.05, 0.20]"
    assert signed("accuracy", estimate(0.021, 0.003, 0.039)) == "+2.1 [+0.3, +3.9] points"


def test_a_rounded_negative_zero_has_no_sign() -> None:
    assert written("nll", estimate(-0.0001, -0.5, 0.5)) == "0.0 [-0.5, 0.5]"


def test_an_interval_without_width_borrows_the_digits_of_the_others() -> None:
    exact, wide = estimate(53.5312, 53.5312, 53.5312), estimate(43.2, 42.9, 43.6)
    assert decimals("sharpness", [exact, wide]) == 2
    assert written("sharpness", exact) == "53.53 [53.53, 53.53]"


def test_every_measure_says_what_it_means() -> None:
    for measure in MEASURES.values():
        assert measure.meaning.endswith(".")
        assert measure.label
