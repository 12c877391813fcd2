from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import brier_score, spiegelhalter_test

RNG = np.random.default_rng(0)


def test_statistic_by_hand() -> None:
    # p = 0.8 twice, y = 0 and 1: sum (y - p)(1 - 2p) = (-0.8)(-0.6) + 0.2 (-0.6) = 0.36;
    # variance 2 * 0.36 * 0.16 = 0.1152.
    found = spiegelhalter_test([0.8, 0.8], [0, 1], kind="binary")
    assert found.statistic == pytest.approx(0.36 / math.sqrt(0.1152))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.36 / math.sqrt(0.1152)))
    assert found.n == 2


def test_statistic_is_the_standardized_brier_score() -> None:
    probs, y = RNG.dirichlet(np.ones(4), 30), RNG.integers(0, 4, 30)
    mean, variance = 0.0, 0.0
    for row in probs:
        scores = np.asarray(brier_score(np.tile(row, (4, 1)), np.arange(4)))
        mean += row @ scores
        variance += row @ (scores - row @ scores) ** 2
    want = (np.sum(brier_score(probs, y)) - mean) / math.sqrt(variance)
    assert spiegelhalter_test(probs, y).statistic == pytest.approx(want)


def test_two_classes_are_the_binary_form() -> None:
    p, y = RNG.uniform(size=40), RNG.integers(0, 2, 40)
    two = np.stack([1 - p, p], axis=1)
    binary = spiegelhalter_test(p, y, kind="binary").statistic
    assert spiegelhalter_test(two, y).statistic == pytest.approx(binary)


def test_calibrated_predictions_give_a_standard_normal() -> None:
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        probs = rng.dirichlet(np.ones(3), 100)
        y = (rng.uniform(size=(100, 1)) > probs.cumsum(axis=1)).sum(axis=1)
        found.append(spiegelhalter_test(probs, y).statistic)
    assert stats.kstest(found, "norm").pvalue > 0.001


def test_sign_tells_over_from_under_confidence() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, 2000)
    y = rng.uniform(size=2000) < p
    logit = np.log(p / (1 - p))
    too_sure = spiegelhalter_test(1 / (1 + np.exp(-2 * logit)), y, kind="binary")
    too_shy = spiegelhalter_test(1 / (1 + np.exp(-logit / 2)), y, kind="binary")
    assert too_sure.statistic > 4
    assert too_shy.statistic < -4


def test_top_label_tests_confidence_against_hits() -> None:
    probs = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]
    want = spiegelhalter_test([0.8, 0.8], [0, 1], kind="binary").statistic
    assert spiegelhalter_test(probs, [1, 1], kind="top_label").statistic == pytest.approx(want)


def test_rows_that_say_nothing_give_zero() -> None:
    # The squares of six sixths sum to a rounding off 1/6.
    sixth = np.full((9, 6), 1 / 6, dtype=np.float32)
    for probs, kind in [(sixth, "multiclass"), (np.full(9, 0.5), "binary")]:
        found = spiegelhalter_test(probs, np.zeros(9), kind=kind)  # type: ignore[arg-type]
        assert (found.statistic, found.p_value) == (0.0, 1.0)
    right = spiegelhalter_test([0.0, 1.0], [0, 1], kind="binary")
    assert (right.statistic, right.p_value) == (0.0, 1.0)


def test_sure_and_wrong_is_impossible_if_calibrated() -> None:
    found = spiegelhalter_test([[1.0, 0.0]], [1])
    assert (found.statistic, found.p_value) == (math.inf, 0.0)


def test_kind_that_cannot_be_is_named() -> None:
    with pytest.raises(RangeError, match='`kind` to be one of "multiclass", "top_label", "binary"'):
        spiegelhalter_test([[0.5, 0.5]], [0], kind="classwise")  # type: ignore[arg-type]
