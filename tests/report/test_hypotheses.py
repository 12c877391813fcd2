from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, permutation_test, spearmanr

from mcdrop.report.curves import Float64
from mcdrop.report.hypotheses import (
    Hypothesis,
    binomial_p_value,
    comparisons,
    over_outputs,
    permutation_p_value,
    rows_for_correlation,
    rows_for_share,
    sign_flip_p_value,
    sum_p_value,
    verdicts,
)
from mcdrop.report.measures import Missing, Score


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .5 times 4, 3, 2, 1: .04, .06, .06, .5, none below an earlier one.
    given = {"d": 0.5, "b": 0.02, "a": 0.01, "c": 0.03}
    judged = verdicts({key: Hypothesis(key, p) for key, p in given.items()}, 0.05)
    assert list(judged) == list(given)
    adjusted = {key: verdict.adjusted for key, verdict in judged.items()}
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.5})
    assert [key for key, verdict in judged.items() if verdict.rejected] == ["a"]


def test_outputs_are_combined_by_bonferroni() -> None:
    assert over_outputs(np.array([0.02, 0.5, 1.0])) == pytest.approx(0.06)
    assert over_outputs(np.array([0.9, 0.8])) == 1.0


def test_ten_of_ten_at_ninety_percent_by_hand() -> None:
    # P(10 of 10) = 0.9^10 = 0.349, twice that 0.697; 5 or fewer of 10 have 0.0016.
    p_values = binomial_p_value(np.array([10.0, 5.0]), 10, 0.9)
    below = sum(math.comb(10, k) * 0.9**k * 0.1 ** (10 - k) for k in range(6))
    assert p_values == pytest.approx([2 * 0.9**10, 2 * below])


@pytest.mark.parametrize("successes", range(5))
def test_a_sum_of_unequal_chances_by_enumeration(successes: int) -> None:
    chances = np.array([0.1, 0.5, 0.9, 0.97])
    chance = [0.0] * 5
    for rights in itertools.product([0, 1], repeat=4):
        chance[sum(rights)] += float(
            np.prod([p if right else 1 - p for p, right in zip(chances, rights, strict=True)])
        )
    expected = min(1.0, 2 * min(sum(chance[: successes + 1]), sum(chance[successes:])))
    assert sum_p_value(chances, successes) == pytest.approx(expected, rel=1e-9)


def test_a_sum_of_equal_chances_is_binomial_also_for_many_rows() -> None:
    n, p = 5000, 0.93
    for successes in (4550, 4650, 4700):
        expected = 2 * min(binom.cdf(successes, n, p), binom.sf(successes - 1, n, p))
        found = sum_p_value(np.full(n, p), successes)
        assert found == pytest.approx(min(1.0, expected), rel=1e-6, abs=1e-12)


def test_a_permutation_agrees_with_all_permutations_of_scipy() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=7), draw.normal(size=7)

    def correlation(x: Float64) -> float:
        return float(spearmanr(x, b).statistic)

    exact = permutation_test((a,), correlation, permutation_type="pairings", n_resamples=10**6)
    found, p_value = permutation_p_value(a, b, 0)
    assert found == pytest.approx(correlation(a))
    # 1999 draws: four standard errors at most.
    assert abs(p_value - exact.pvalue) < 4 * math.sqrt(0.25 / 1999) * 2


def test_a_constant_ranks_nothing() -> None:
    assert permutation_p_value(np.ones(20), np.arange(20.0), 0) == (0.0, 1.0)


def test_sign_flips_agree_with_all_sign_patterns() -> None:
    differences = np.array([0.5, -0.2, 1.0, 0.7, 0.3, -0.1])
    sums = [float(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=6)]
    exact = float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12))
    assert abs(sign_flip_p_value(differences, 0) - exact) < 4 * math.sqrt(0.25 / 1999) * 2
    assert sign_flip_p_value(np.zeros(5), 0) == 1.0


def test_chunks_of_draws_do_not_change_a_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=50), draw.normal(size=50)
    whole = permutation_p_value(a, b, 0), sign_flip_p_value(a, 0)
    monkeypatch.setattr("mcdrop.report.hypotheses._AT_ONCE", 50 * 7)
    assert (permutation_p_value(a, b, 0), sign_flip_p_value(a, 0)) == whole


@pytest.mark.parametrize("share", [0.75, 0.9, 0.99])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_rows_said_to_be_enough_show_the_gap_four_times_in_five(
    share: float, level: float
) -> None:
    n = rows_for_share(share, 0.05, level)
    k = np.arange(n + 1, dtype=np.float64)
    seen = binomial_p_value(k, n, share) <= level
    power = float(binom.pmf(k, n, share - 0.05)[seen].sum())
    # Rounded up to two digits, so a little more than planned; discrete, so a little less at times.
    assert 0.76 < power < 0.9


def test_the_rows_for_a_correlation_show_it_four_times_in_five() -> None:
    n, draw = rows_for_correlation(0.3, 0.05), np.random.default_rng(0)
    pearson = 2 * math.sin(0.3 * math.pi / 6)  # of normals whose Spearman correlation is 0.3
    seen = 0
    for _ in range(400):
        a = draw.normal(size=n)
        b = pearson * a + math.sqrt(1 - pearson**2) * draw.normal(size=n)
        seen += bool(spearmanr(a, b).pvalue <= 0.05)
    # Binomial standard error 0.02.
    assert seen / 400 == pytest.approx(0.8, abs=0.08)


def test_only_measures_that_judge_and_differ_are_compared() -> None:
    losses = torch.arange(20, dtype=torch.float64)
    main = {"nll": Score.by_row(losses), "sharpness": Score(lambda x: x, (losses,))}
    other = {"nll": Score.by_row(losses + 1), "sharpness": Score(lambda x: x, (losses + 1,))}
    found = comparisons({"A": main, "B": other, "C": main, "D": {"nll": Missing("no")}}, 0)
    assert list(found) == ["nll against B"]
    # All 20 signs equal: 2 of 2^20 sign patterns, below the smallest p-value of the draws.
    assert found["nll against B"].p_value == pytest.approx(2 / 2000)
    assert "A and B may be swapped in every row (NLL)" in found["nll against B"].null
