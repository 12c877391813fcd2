from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import fpr_at_tpr, ood_aupr, ood_auroc
from tests.metrics import oracles

SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def _join(inside: list[int], outside: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(inside + outside, float), np.array([0] * len(inside) + [1] * len(outside))


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(inside: list[int], outside: list[int]) -> None:
    u, is_ood = _join(inside, outside)
    assert ood_auroc(u, is_ood) == pytest.approx(oracles.auroc(u, is_ood))
    assert ood_auroc(u, is_ood) == pytest.approx(roc_auc_score(is_ood, u))
    assert ood_auroc(-u, is_ood) == pytest.approx(1 - ood_auroc(u, is_ood))


@given(SCORES, SCORES)
def test_turning_the_task_around_swaps_the_two_conventions(
    inside: list[int], outside: list[int]
) -> None:
    u, is_ood = _join(inside, outside)
    for metric in (ood_aupr, fpr_at_tpr):
        around = metric(-u, 1 - is_ood, positive="out")
        assert metric(u, is_ood, positive="in") == pytest.approx(around)


def test_false_positives_by_hand() -> None:
    # Foreign 20 .. 1; 95 % of them reach 2 and above. Familiar 5, 1.5, 0, 0: one of four does.
    u = np.array([*range(1, 21), 5, 1.5, 0, 0], float)
    is_ood = np.array([1] * 20 + [0] * 4)
    assert fpr_at_tpr(u, is_ood) == 0.25
    assert fpr_at_tpr(u, is_ood, tpr=1.0) == 0.5
    # Keeping all four familiar rows lets foreign 1 .. 5 through.
    assert fpr_at_tpr(u, is_ood, positive="in") == 0.25


def test_average_precision_by_hand() -> None:
    # Order out, in, out: precision 1 at recall 1/2, 2/3 at recall 1.
    u, is_ood = [3.0, 2.0, 1.0], [1, 0, 1]
    assert ood_aupr(u, is_ood) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # By certainty the familiar row comes second of three.
    assert ood_aupr(u, is_ood, positive="in") == pytest.approx(0.5)


def test_perfect_and_useless_scores() -> None:
    is_ood = np.array([0] * 10 + [1] * 30)
    assert ood_auroc(is_ood, is_ood) == 1.0
    assert ood_aupr(is_ood, is_ood) == 1.0
    assert fpr_at_tpr(is_ood, is_ood) == 0.0
    flat = torch.zeros(40)
    assert ood_auroc(flat, is_ood) == 0.5
    assert ood_aupr(flat, is_ood) == pytest.approx(0.75)
    assert fpr_at_tpr(flat, is_ood) == 1.0


def test_rows_of_one_kind_are_refused() -> None:
    for metric in (ood_auroc, ood_aupr, fpr_at_tpr):
        with pytest.raises(
            RangeError, match="hold rows of both kinds, but got 1 in all 2 rows. Join"
        ):
            metric([0.1, 0.2], [1, 1])


def test_input_that_cannot_be_is_named() -> None:
    with pytest.raises(RangeError, match="`is_ood` to hold class indices from 0 to 1"):
        ood_auroc([0.1, 0.2], [0, 2])
    with pytest.raises(ShapeError, match=r"`uncertainty` to have shape \(2,\) to match `is_ood`"):
        ood_auroc([0.1], [0, 1])
    with pytest.raises(ShapeError, match=r"`is_ood` to have shape \(N,\)"):
        ood_auroc([[0.1]], [[0]])
    with pytest.raises(NonFiniteError, match="ood_aupr: expected `uncertainty`"):
        ood_aupr([np.nan, 0.2], [0, 1])
    with pytest.raises(RangeError, match=r"`tpr` to lie in \(0, 1\], but got 95"):
        fpr_at_tpr([0.1, 0.2], [0, 1], tpr=95)
    with pytest.raises(RangeError, match='`positive` to be one of "out", "in"'):
        fpr_at_tpr([0.1, 0.2], [0, 1], positive="ood")  # type: ignore[arg-type]
