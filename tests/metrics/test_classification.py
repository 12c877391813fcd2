from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import accuracy, brier_score, nll_categorical

RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(4), 60)
Y = RNG.integers(0, 4, 60)


def test_scores_of_one_row_by_hand() -> None:
    # Label 0 with probability 0.2: -log 0.2; (0.8^2 + 0.5^2 + 0.3^2) = 0.98.
    probs = [[0.2, 0.5, 0.3]]
    assert nll_categorical(probs, [0])[0] == pytest.approx(math.log(5), rel=1e-14)
    assert brier_score(probs, [0])[0] == pytest.approx(0.98, rel=1e-14)
    assert accuracy(probs, [0]) == 0.0
    assert accuracy(probs, [1]) == 1.0


def test_sure_and_wrong_scores_infinity_and_two() -> None:
    probs = [[1.0, 0.0], [1.0, 0.0]]
    assert nll_categorical(probs, [0, 1]).tolist() == [0.0, math.inf]
    assert brier_score(probs, [0, 1]).tolist() == [0.0, 2.0]
    assert nll_categorical([0.0, 1.0, 1.0], [0, 1, 0], kind="binary").tolist() == [0, 0, math.inf]


def test_scikit_learn_agrees() -> None:
    assert np.mean(nll_categorical(PROBS, Y)) == pytest.approx(log_loss(Y, PROBS), rel=1e-12)
    assert accuracy(PROBS, Y) == accuracy_score(Y, PROBS.argmax(1))
    p, y = PROBS[:, 0], Y == 0
    assert np.mean(brier_score(p, y, kind="binary")) == pytest.approx(brier_score_loss(y, p))


def test_two_classes_score_as_binary_and_brier_doubles() -> None:
    p, y = RNG.uniform(size=30), RNG.integers(0, 2, 30)
    two = np.stack([1 - p, p], axis=1)
    np.testing.assert_allclose(nll_categorical(two, y), nll_categorical(p, y, kind="binary"))
    np.testing.assert_allclose(brier_score(two, y), 2 * brier_score(p, y, kind="binary"))
    assert accuracy(two, y) == accuracy(p, y, kind="binary")


def test_many_labels_are_scored_one_by_one() -> None:
    p, y = RNG.uniform(size=(5, 3)), RNG.integers(0, 2, (5, 3))
    score = brier_score(p, y, kind="binary")
    assert score.shape == (5, 3)
    np.testing.assert_allclose(score[:, 2], brier_score(p[:, 2], y[:, 2], kind="binary"))
    assert accuracy(p, y, kind="binary") == pytest.approx(((p > 0.5) == y).mean())


def test_tiny_probability_keeps_its_digits() -> None:
    # -log(1 - 1e-12) = 1e-12 to 12 digits, which 1 - p in floating point would lose.
    score = nll_categorical([1e-12], [0], kind="binary")
    assert score[0] == pytest.approx(1e-12, rel=1e-10, abs=0)


@pytest.mark.parametrize("score", [nll_categorical, brier_score])
def test_truth_minimizes_the_expected_score(score: object) -> None:
    assert callable(score)
    truth = np.array([0.5, 0.3, 0.2])

    def expected(forecast: np.ndarray) -> float:
        rows = np.tile(forecast, (3, 1))
        return float(truth @ np.asarray(score(rows, [0, 1, 2])))

    for other in ([0.55, 0.25, 0.2], [0.45, 0.35, 0.2], [0.5, 0.25, 0.25], [1 / 3] * 3):
        assert expected(np.array(other)) > expected(truth)


def test_renaming_the_classes_changes_nothing() -> None:
    order = np.array([2, 0, 3, 1])
    renamed = np.argsort(order)[Y]
    np.testing.assert_allclose(brier_score(PROBS[:, order], renamed), brier_score(PROBS, Y))
    np.testing.assert_allclose(nll_categorical(PROBS[:, order], renamed), nll_categorical(PROBS, Y))


def test_weights_count_rows() -> None:
    assert accuracy([[1.0, 0.0], [1.0, 0.0]], [0, 1], weights=[3, 1]) == 0.75


def test_first_class_wins_a_tie() -> None:
    assert accuracy([[0.5, 0.5]], [0]) == 1.0
    assert accuracy([0.5], [0], kind="binary") == 1.0


def test_softmax_in_any_precision_is_accepted() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        probs = torch.randn(50, 100, generator=torch.Generator().manual_seed(0)).softmax(-1)
        score = nll_categorical(probs.to(dtype), torch.zeros(50, dtype=torch.long))
        assert isinstance(score, torch.Tensor)
        assert score.dtype == dtype


def test_thirds_in_bfloat16_sum_to_a_little_more_than_one() -> None:
    # 1/3 rounds to 0.333984375, and three of them to 1.00195.
    third = torch.full((1, 3), 1 / 3, dtype=torch.bfloat16)
    assert accuracy(third, [0]) == 1.0
    with pytest.raises(RangeError, match=r"a sum of 1\.00195"):
        accuracy(third.float(), [0])


def test_logits_are_refused_not_squashed() -> None:
    with pytest.raises(RangeError, match=r"`probs` to lie in \[0, 1\], but got -1 in row 1\. "
                       "Pass probabilities, not logits"):  # fmt: skip
        brier_score([[0.5, 0.5], [-1.0, 2.0]], [0, 0])
    with pytest.raises(RangeError, match=r"rows that sum to one, but got a sum of 1\.7 in row 1"):
        brier_score([[0.5, 0.5], [0.9, 0.8]], [0, 0])
    with pytest.raises(RangeError, match=r"but got 1\.5 in row 1"):
        nll_categorical([0.5, 1.5], [0, 1], kind="binary")


def test_labels_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match=r"class indices from 0 to 1, but got 2 in rows 0, 1"):
        accuracy([[0.5, 0.5]] * 2, [2, 2])
    with pytest.raises(RangeError, match=r"but got 0\.5 in row 0"):
        accuracy([[0.5, 0.5]], [0.5])
    with pytest.raises(RangeError, match="Code the two outcomes as 0 and 1"):
        brier_score([0.5], [-1], kind="binary")
    with pytest.raises(ShapeError, match=r"Pass class indices, not one-hot rows: y\.argmax\(-1\)"):
        nll_categorical([[0.5, 0.5]], [[1, 0]])


def test_shapes_that_do_not_match_are_named() -> None:
    with pytest.raises(ShapeError, match=r'`probs` to have shape \(2, C.*Say kind="binary"'):
        nll_categorical([0.5, 0.5], [0, 1])
    with pytest.raises(ShapeError, match=r"\(3, C\) to match `y`, but got \(1, 2\)"):
        accuracy([[0.5, 0.5]], [0, 1, 0])
    with pytest.raises(ShapeError, match=r"at least two columns, but got \(1, 1\)"):
        accuracy([[1.0]], [0])
    with pytest.raises(ShapeError, match=r"probs\.squeeze\(-1\)"):
        brier_score([[0.5], [0.5]], [0, 1], kind="binary")
    with pytest.raises(NonFiniteError, match="`probs` to hold finite numbers"):
        accuracy([[np.nan, 0.5]], [0])
    with pytest.raises(RangeError, match='`kind` to be one of "multiclass", "binary"'):
        accuracy([[0.5, 0.5]], [0], kind="top_label")  # type: ignore[arg-type]
