from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import augrc, aurc, risk_coverage_curve, selective_risk
from tests.metrics import oracles

RNG = np.random.default_rng(0)
U = RNG.uniform(size=60)
ERRORS = (RNG.uniform(size=60) < U).astype(float)
ROWS = st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=15)


def _arrays(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(r[0]) for r in rows]), np.array([r[1] for r in rows])


def test_ties_are_kept_or_rejected_together_by_hand() -> None:
    # u = 0.1 | 0.2, 0.2 | 0.3, losses 1, 0, 1, 0: risks 1, 2/3, 1/2 at 1/4, 3/4, 1.
    u, loss = [0.2, 0.1, 0.2, 0.3], [0, 1, 1, 0]
    curve = risk_coverage_curve(u, loss=loss)
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([1.0, 2 / 3, 0.5])
    assert curve.threshold.tolist() == [0.1, 0.2, 0.3]
    # mean: (1 + 2/3 + 2/3 + 1/2) / 4.
    assert aurc(u, loss=loss) == pytest.approx((1 + 4 / 3 + 0.5) / 4)
    # trapezoid: 1/4 * 1 + 1/2 * (1 + 2/3) / 2 + 1/4 * (2/3 + 1/2) / 2.
    want = 0.25 + 0.5 * 5 / 6 + 0.25 * 7 / 12
    assert aurc(u, loss=loss, convention="trapezoid") == pytest.approx(want)
    # let through 0, 1/4, 1/2, 1/2: 1/4 * 1/8 + 1/2 * 3/8 + 1/4 * 1/2.
    assert augrc(u, loss=loss) == pytest.approx(1 / 32 + 3 / 16 + 1 / 8)


@given(ROWS)
def test_loops_give_the_same(rows: list[tuple[int, float]]) -> None:
    u, loss = _arrays(rows)
    points = oracles.risk_coverage(u, loss)
    curve = risk_coverage_curve(u, loss=loss)
    np.testing.assert_allclose(curve.coverage, [c for c, _ in points])
    np.testing.assert_allclose(curve.risk, [r for _, r in points], atol=1e-12)
    by_row = [dict(zip(sorted(set(u)), points, strict=True))[value][1] for value in u]
    assert aurc(u, loss=loss) == pytest.approx(np.mean(by_row), abs=1e-12)


@given(ROWS, st.integers(0, 99))
def test_order_of_rows_and_rising_maps_change_nothing(
    rows: list[tuple[int, float]], seed: int
) -> None:
    u, loss = _arrays(rows)
    order = np.random.default_rng(seed).permutation(len(u))
    for metric in (aurc, augrc):
        assert metric(np.exp(u[order]), loss=loss[order]) == pytest.approx(
            metric(u, loss=loss), abs=1e-12
        )


def test_generalized_area_follows_from_auroc_and_error_rate() -> None:
    # Traub et al. (2024): AUGRC = (1 - AUROC) e (1 - e) + e^2 / 2, also with ties.
    for u in (U, np.round(U, 1)):
        e, auroc = ERRORS.mean(), roc_auc_score(ERRORS, u)
        assert augrc(u, loss=ERRORS) == pytest.approx((1 - auroc) * e * (1 - e) + e**2 / 2)


def test_no_ranking_beats_the_ranking_by_loss() -> None:
    loss = RNG.exponential(size=60)
    for metric in (aurc, augrc):
        best = metric(loss, loss=loss)
        assert best < metric(U, loss=loss) < metric(-loss, loss=loss)


def test_useless_uncertainty_costs_the_overall_risk() -> None:
    flat = np.zeros(60)
    assert aurc(flat, loss=ERRORS) == pytest.approx(ERRORS.mean())
    assert aurc(flat, loss=ERRORS, convention="trapezoid") == pytest.approx(ERRORS.mean())
    assert augrc(flat, loss=ERRORS) == pytest.approx(ERRORS.mean() / 2)


def test_conventions_meet_for_many_rows() -> None:
    u = RNG.uniform(size=20_000)
    errors = RNG.uniform(size=20_000) < u
    assert aurc(u, loss=errors) == pytest.approx(
        aurc(u, loss=errors, convention="trapezoid"), abs=1e-3
    )
    # risk(c) = c / 2 for these: the area is 1/4.
    assert aurc(u, loss=errors) == pytest.approx(0.25, abs=0.01)


def test_risk_at_a_coverage_is_the_mean_of_the_rows_kept() -> None:
    kept = np.argsort(U)[:42]
    # 0.1 + 0.2 is a rounding above 0.3.
    assert (
        selective_risk(
            [1.0, 2.0, 3.0, 4.0] + [5.0] * 6, loss=[0, 0, 0, 1] + [1] * 6, coverage=0.1 + 0.2
        )
        == 0
    )
    assert selective_risk(U, loss=ERRORS, coverage=0.7) == pytest.approx(ERRORS[kept].mean())
    assert selective_risk(U, loss=ERRORS, coverage=1.0) == pytest.approx(ERRORS.mean())
    assert selective_risk(U, loss=ERRORS, coverage=1e-9) == ERRORS[np.argmin(U)]
    assert selective_risk([1.0, 1.0, 2.0], loss=[0, 1, 1], coverage=0.4) == 0.5


def test_loss_goes_by_name_so_that_the_two_cannot_be_swapped() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        aurc(U, ERRORS)  # type: ignore[call-arg]


def test_one_row_and_tensors() -> None:
    assert aurc(torch.tensor([0.3]), loss=torch.tensor([1])) == 1.0
    assert augrc([0.3], loss=[1]) == 0.5


def test_input_that_cannot_be_is_named() -> None:
    with pytest.raises(ShapeError, match=r"`uncertainty` to have shape \(2,\) to match `loss`, but "
                       r"got \(2, 1\)\. Drop the last axis: uncertainty\.squeeze"):  # fmt: skip
        aurc([[0.1], [0.2]], loss=[0, 1])
    with pytest.raises(ShapeError, match=r"`loss` to have shape \(N,\).*Average the loss"):
        augrc(np.zeros((2, 2)), loss=np.zeros((2, 2)))
    with pytest.raises(NonFiniteError, match=r"risk_coverage_curve: expected `loss`.*in row 1"):
        risk_coverage_curve([0.1, 0.2], loss=[0.0, np.inf])
    with pytest.raises(RangeError, match=r"`coverage` to lie in \(0, 1\], but got 0"):
        selective_risk(U, loss=ERRORS, coverage=0)
    with pytest.raises(RangeError, match='`convention` to be one of "mean", "trapezoid"'):
        aurc(U, loss=ERRORS, convention="geifman")  # type: ignore[arg-type]
