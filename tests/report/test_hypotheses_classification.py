from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from mcdrop.displays._matching import matched_classification
from mcdrop.report.hypotheses_classification import classification_hypotheses
from mcdrop.report.measures import Resampling
from tests.report.made import certain


def test_equal_confidence_gives_the_binomial_test_twice() -> None:
    # One bin: its gap is the gap on average, and both tests count right rows.
    probs = torch.tensor([[0.8, 0.2]] * 50, dtype=torch.float64)
    y = torch.tensor([0] * 32 + [1] * 18)
    made = matched_classification({"A": certain(probs)}, y, Resampling(0.95, 10, 0))["A"]
    found = classification_hypotheses(made, 0)
    lower = binomtest(32, 50, 0.8, alternative="less").pvalue
    assert found["confidence"].p_value == pytest.approx(2 * lower)
    both = lower + binomtest(48, 50, 0.8, alternative="greater").pvalue
    # 999 draws: four standard errors at p = 0.008.
    assert found["reliability"].p_value == pytest.approx(both, abs=4 * (0.008 / 999) ** 0.5)


def test_equal_entropies_rank_nothing_and_no_errors_leave_nothing_to_rank() -> None:
    probs = torch.tensor([[0.8, 0.2]] * 50, dtype=torch.float64)
    y = torch.tensor([0] * 40 + [1] * 10)
    resampling = Resampling(0.95, 10, 0)
    made = matched_classification({"A": certain(probs)}, y, resampling)["A"]
    assert "ranking" not in classification_hypotheses(made, 0)
    none = matched_classification({"A": certain(probs)}, 0 * y, resampling)["A"]
    assert "ranking" not in classification_hypotheses(none, 0)
