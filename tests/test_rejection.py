"""A rejection rule keeps its promises: the share it rejects and the error of what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

import mcdrop
from mcdrop import ClassificationPrediction, RegressionPrediction, RejectionRule


def classified(p: Any) -> ClassificationPrediction:
    p = torch.as_tensor(p, dtype=torch.float64)
    zero = torch.zeros_like(p)
    probs = torch.stack([1 - p, p], dim=1)
    entropy = -torch.special.xlogy(probs, probs).sum(dim=1)
    return ClassificationPrediction(
        probs=probs,
        probs_std=0 * probs,
        expected_entropy=entropy,
        variation_ratio=zero,
        mcse=0 * probs,
        n_samples=0,
    )


def regressed(std: Any, mean: Any = 0.0) -> RegressionPrediction:
    std = torch.as_tensor(std, dtype=torch.float64)
    zero = torch.zeros_like(std)
    return RegressionPrediction(
        mean=zero + mean,
        epistemic_variance=zero,
        aleatoric_variance=std**2,
        mcse=zero,
        n_samples=0,
        family="normal",
    )


def test_the_threshold_is_the_order_statistic_that_rejects_the_share_asked_for() -> None:
    # Nine rows, reject 0.3: k = 0.7 * 10 = 7 are kept, so the threshold is the 7th smallest.
    rule = RejectionRule.fit(regressed([5, 1, 9, 2, 8, 3, 7, 4, 6]), [0.0] * 9, reject=0.3)
    assert rule.threshold == 7
    assert rule.by == "std"
    assert rule.rejected.value == pytest.approx(0.3)
    assert rule(regressed([6.9, 7.0, 7.1])).tolist() == [False, False, True]


def test_low_confidence_is_rejected_and_entropy_agrees_for_two_classes() -> None:
    p = [0.05, 0.3, 0.55, 0.8, 0.99, 0.6, 0.9]
    y = [0, 0, 1, 1, 1, 0, 1]
    first = RejectionRule.fit(classified(p), y, reject=0.25)
    second = RejectionRule.fit(classified(p), y, reject=0.25, by="predictive_entropy")
    assert first(classified(p)).tolist() == [False, False, True, False, False, False, False]
    assert torch.equal(first(classified(p)), second(classified(p)))
    # Six rows are left, of which one (p = 0.6, y = 0) is wrong.
    assert first.error.value == pytest.approx(1 / 6)


def test_the_interval_of_the_error_is_that_of_the_binomial_test() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=60)
    y = (rng.uniform(size=60) < p).astype(int)
    rule = RejectionRule.fit(classified(p), y, reject=0.2, level=0.9)
    kept = ~rule(classified(p)).numpy()
    wrong = int(((p > 0.5) != y)[kept].sum())
    # The ends are the rates at which as many errors, or as few, have probability 5 %.
    assert binom.sf(wrong - 1, kept.sum(), rule.error.low) == pytest.approx(0.05)
    assert binom.cdf(wrong, kept.sum(), rule.error.high) == pytest.approx(0.05)


def test_new_rows_are_rejected_and_wrong_as_often_as_stated() -> None:
    rng = np.random.default_rng(1)
    rejected, covered, held = [], [], []
    p_new = rng.uniform(size=20_000)
    new = classified(p_new)
    for _ in range(400):
        p = rng.uniform(size=80)
        y = rng.uniform(size=80) < p
        rule = RejectionRule.fit(classified(p), y.astype(int), reject=0.25)
        out = rule(new).numpy()
        # Given p, the predicted class is wrong with probability min(p, 1 - p).
        error = np.minimum(p_new, 1 - p_new)[~out].mean()
        rejected.append(out.mean())
        covered.append(rule.error.low <= error <= rule.error.high)
        held.append(rule.rejected.low <= out.mean() <= rule.rejected.high)
    assert np.mean(rejected) == pytest.approx(rule.rejected.value, abs=4 * 0.05 / 400**0.5)
    assert np.mean(covered) >= 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5
    assert abs(np.mean(held) - 0.95) <= 3 * (0.95 * 0.05 / 400) ** 0.5


def test_regression_counts_absolute_errors_or_those_above_a_tolerance() -> None:
    prediction = regressed([1.0, 1.0, 2.0, 9.0], mean=1.0)
    y = [1.5, 0.0, 4.0, 9.0]
    rule = RejectionRule.fit(prediction, y, reject=0.4)
    assert rule.error.value == pytest.approx((0.5 + 1 + 3) / 3)
    rule = RejectionRule.fit(prediction, y, reject=0.4, tolerance=0.75)
    assert rule.error.value == pytest.approx(2 / 3)
    assert rule.error.method == "clopper-pearson"


def test_a_function_may_say_what_is_uncertain() -> None:
    prediction = regressed(torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 3.0]]))
    with pytest.raises(mcdrop.ShapeError, match=r"one uncertainty per row, but got shape \(3, 2\)"):
        RejectionRule.fit(prediction, torch.zeros(3, 2), reject=0.3)
    rule = RejectionRule.fit(
        prediction, torch.zeros(3, 2), reject=0.5, by=lambda p: p.std.mean(dim=1)
    )
    assert rule(prediction).tolist() == [False, False, True]


def test_ties_are_kept_together() -> None:
    rule = RejectionRule.fit(regressed([1.0, 1, 1, 1]), [0.0] * 4, reject=0.5)
    assert not rule(regressed([1.0, 1])).any()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reject": 10}, mcdrop.RangeError, r"`reject` to lie in \(0, 1\), .*ten percent as 0.1"),
        ({"reject": 0.1}, mcdrop.RangeError, "`reject` to be at least 0.2, one of 5 rows"),
        ({"by": "entropy"}, mcdrop.RangeError, '`by` to be one of "std", "epistemic_std"'),
        ({"tolerance": -1.0}, mcdrop.RangeError, "`tolerance` to be above 0, but got -1.0"),
        ({"tolerance": "1"}, mcdrop.RangeError, "`tolerance` to be above 0, but got '1'"),
        ({"level": 95}, mcdrop.RangeError, r"`level` to lie in \(0, 1\)"),
        ({"y": [0.0]}, mcdrop.ShapeError, r"`y` to have shape \(4,\)"),
    ],
)
def test_what_makes_no_rule_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    asked = {"y": [0.0] * 4, "reject": 0.5, **options}
    with pytest.raises(error, match=f"RejectionRule.fit: expected {text}"):
        RejectionRule.fit(regressed([1.0, 2, 3, 4]), **asked)


def test_types_are_not_mixed_up() -> None:
    rule = RejectionRule.fit(regressed([1.0, 2, 3, 4]), [0.0] * 4, reject=0.5)
    text = "RejectionRule: expected `prediction` to have std, by which .* on a regression"
    with pytest.raises(mcdrop.RangeError, match=text):
        rule(classified([0.5]))
    with pytest.raises(mcdrop.UnsupportedError, match="be None for a classification"):
        RejectionRule.fit(classified([0.5, 0.7]), [1, 1], reject=0.5, tolerance=1.0)


def test_what_is_no_prediction_is_refused() -> None:
    rule = RejectionRule.fit(regressed([1.0, 2, 3, 4]), [0.0] * 4, reject=0.5)
    text = "`prediction` to be a RegressionPrediction or a ClassificationPrediction, but got "
    for wrong in (None, np.zeros(4)):
        with pytest.raises(mcdrop.UnsupportedError, match=f"RejectionRule.fit: .*{text}"):
            RejectionRule.fit(wrong, [0.0] * 4)  # type: ignore[arg-type]
        with pytest.raises(mcdrop.UnsupportedError, match=f"RejectionRule: .*{text}"):
            rule(wrong)  # type: ignore[arg-type]


def test_the_remedy_for_several_values_per_row_works_when_it_is_pasted() -> None:
    images = ClassificationPrediction.from_probs(torch.full((12, 2, 3, 3), 0.5))
    y = torch.zeros(12, 3, 3)
    with pytest.raises(mcdrop.ShapeError, match="by=lambda p: ") as raised:
        RejectionRule.fit(images, y)
    pasted = str(raised.value).split("by=")[1].removesuffix(".")
    by = eval(pasted)  # noqa: S307
    assert RejectionRule.fit(images, y, by=by)(images).shape == (12,)


def test_nothing_is_said_to_be_rejected_where_all_rows_tie() -> None:
    prediction = mcdrop.RegressionPrediction.from_mean_std(np.zeros(50), 1.0)
    rule = mcdrop.RejectionRule.fit(prediction, np.arange(50.0), reject=0.1)
    assert not rule(prediction).any()
    # No row of 50 above the threshold: the upper end of Clopper-Pearson is 1 - 0.025^(1/50).
    assert (rule.rejected.value, rule.rejected.low) == (0.0, 0.0)
    assert rule.rejected.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_the_share_rejected_lies_in_its_interval_where_rows_tie() -> None:
    rng = np.random.default_rng(0)
    confidence, chances = np.array([0.6, 0.8, 1.0]), np.array([0.02, 0.18, 0.8])
    every = mcdrop.ClassificationPrediction.from_probs(np.stack([confidence, 1 - confidence], 1))
    inside = 0
    for _ in range(300):
        rows = rng.choice(3, size=40, p=chances)
        rule = mcdrop.RejectionRule.fit(every[rows], np.zeros(40, int), reject=0.1)
        rejected = float(rule(every).numpy() @ chances)
        inside += rule.rejected.low <= rejected <= rule.rejected.high
    assert inside >= 0.95 * 300
