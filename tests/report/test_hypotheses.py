from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, spearmanr

from mcdrop.report.hypotheses import (
    Hypothesis,
    comparisons,
    rows_for_correlation,
    rows_for_share,
    sign_flip_p_value,
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


def test_sign_flips_agree_with_all_sign_patterns() -> None:
    differences = np.array([0.5, -0.2, 1.0, 0.7, 0.3, -0.1])
    sums = [float(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=6)]
    exact = float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12))
    assert abs(sign_flip_p_value(differences, 0) - exact) < 4 * math.sqrt(0.25 / 999)
    assert sign_flip_p_value(np.zeros(5), 0) == 1.0


def test_chunks_of_draws_do_not_change_a_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.2, size=50)
    whole = sign_flip_p_value(differences, 0)
    monkeypatch.setattr("mcdrop.report.hypotheses._AT_ONCE", 50 * 7)
    assert sign_flip_p_value(differences, 0) == whole


@pytest.mark.parametrize("share", [0.75, 0.9, 0.99])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_rows_said_to_be_enough_show_the_gap_four_times_in_five(
    share: float, level: float
) -> None:
    n = rows_for_share(share, 0.05, level)
    k = np.arange(n + 1)
    tails = np.minimum(binom.cdf(k, n, share), binom.sf(k - 1, n, share))
    seen = 2 * tails <= level
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
    assert found["nll against B"].p_value == pytest.approx(1 / 1000)
    assert "NLL: A and B may be swapped in every row" in found["nll against B"].null
