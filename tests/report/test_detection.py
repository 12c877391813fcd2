from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, norm
from sklearn.metrics import roc_auc_score

from mcdrop.displays._draws import Draws
from mcdrop.report.detection import error_auroc

DRAWS = Draws(0.95, 10, 0)


def test_for_right_and_wrong_it_is_the_area_under_the_roc_curve() -> None:
    draw = np.random.default_rng(0)
    wrong = (draw.random(200) < 0.2).astype(float)
    score = np.round(draw.normal(size=200) + wrong, 1)  # with ties
    found = error_auroc(score, wrong, DRAWS)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(wrong, score), rel=1e-12)


def test_for_errors_of_any_size_it_is_half_of_kendalls_tau_plus_1() -> None:
    draw = np.random.default_rng(0)
    error = draw.normal(size=100) ** 2
    score = draw.normal(size=100) + error
    found = error_auroc(score, error, DRAWS)
    assert found is not None
    assert found.value == pytest.approx((kendalltau(score, error).statistic + 1) / 2, rel=1e-12)
    assert found.low < found.value < found.high


def test_it_is_1_for_a_perfect_order_with_an_interval_of_some_width() -> None:
    rows = np.arange(1.0, 13.0)
    for error in (rows, (rows > 8).astype(float)):
        found = error_auroc(rows, error, DRAWS)
        assert found is not None
        assert found.value == 1
        assert found.low < 0.95
        backwards = error_auroc(-rows, error, DRAWS)
        assert backwards is not None
        assert (backwards.value, backwards.low) == (0, 0)
        assert backwards.high > 0.05


def test_equal_errors_have_none_and_equal_uncertainties_guess() -> None:
    assert error_auroc(np.arange(5.0), np.ones(5), DRAWS) is None
    found = error_auroc(np.full(6, 3.0), np.array([0.0, 0, 1, 0, 1, 0]), DRAWS)
    assert found is not None
    assert found.value == 0.5


def test_newcombes_interval_solves_its_equation() -> None:
    # 5 wrong of 20, 60 of 75 pairs in order: C = 0.8, N* = 20 / 2 - 1 = 9.
    wrong = np.array([1.0] * 5 + [0.0] * 15)
    score = np.array([3.5, 11.5, 12.5, 15.5, 17.0, *range(15)])
    found = error_auroc(score, wrong, DRAWS)
    assert found is not None
    for c in (found.low, found.high):
        variance = c * (1 - c) * (1 + 9 * ((1 - c) / (2 - c) + c / (1 + c))) / 75
        assert abs(found.value - c) == pytest.approx(1.959964 * variance**0.5, rel=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize(("n", "binary"), [(20, True), (60, True), (20, False), (60, False)])
def test_the_interval_holds_the_truth(n: int, binary: bool, shift: float) -> None:
    # Binormal scores: AUROC = Phi(shift / sqrt 2). Normal pairs of correlation r: concordance
    # 1/2 + arcsin(r) / pi.
    draw, held, total = np.random.default_rng(n), 0, 600
    r = shift / 2**0.5
    truth = float(norm.cdf(shift / 2**0.5)) if binary else 0.5 + float(np.arcsin(r)) / np.pi
    for _ in range(total):
        if binary:
            error = (np.arange(n) < n // 4).astype(float)
            score = draw.normal(size=n) + shift * error
        else:
            error = draw.normal(size=n)
            score = r * error + (1 - r**2) ** 0.5 * draw.normal(size=n)
        found = error_auroc(score, error, DRAWS)
        assert found is not None
        held += found.low <= truth <= found.high
    # Three standard errors below 95 %; at 20 rows both methods are known to fall a little short.
    assert held / total >= 0.95 - 3 * (0.05 * 0.95 / total) ** 0.5 - (0.01 if n == 20 else 0)
