"""Sparsification curves against loops, and their area against the risk-coverage curve."""

from __future__ import annotations

import numpy as np
import pytest

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics import aurc, ause, sparsification_curve

RNG = np.random.default_rng(0)
U, LOSS = RNG.uniform(size=30), RNG.exponential(size=30)


def test_loop_over_removed_rows_gives_the_same() -> None:
    curve = sparsification_curve(U, loss=LOSS)
    order, best = np.argsort(U), np.argsort(LOSS)
    for k in range(30):
        kept = order[: 30 - k], best[: 30 - k]
        assert curve.removed[k] == pytest.approx(k / 30)
        assert curve.error[k] == pytest.approx(LOSS[kept[0]].mean() / LOSS.mean())
        assert curve.oracle[k] == pytest.approx(LOSS[kept[1]].mean() / LOSS.mean())


def test_area_is_the_excess_area_under_the_risk_coverage_curve() -> None:
    # Without ties both are means over rows kept of the mean loss, up to the factor mean(loss).
    want = (aurc(U, loss=LOSS) - aurc(LOSS, loss=LOSS)) / LOSS.mean()
    assert ause(U, loss=LOSS) == pytest.approx(want)


def test_ties_are_averaged_over_their_orders() -> None:
    # Two rows tie: the mean of the two orders, at every number of rows removed.
    u, loss = np.array([0.1, 0.5, 0.5]), np.array([1.0, 2.0, 6.0])
    orders = [sparsification_curve(u + np.array([0, 0, e]), loss=loss).error for e in (1e-3, -1e-3)]
    np.testing.assert_allclose(sparsification_curve(u, loss=loss).error, np.mean(orders, axis=0))


def test_roots_are_taken_of_each_mean() -> None:
    plain, root = (sparsification_curve(U, loss=LOSS, root=r) for r in (False, True))
    np.testing.assert_allclose(root.error, np.sqrt(plain.error))


def test_perfect_useless_and_inverted_uncertainty() -> None:
    assert ause(LOSS, loss=LOSS) == 0.0
    np.testing.assert_allclose(sparsification_curve(np.zeros(30), loss=LOSS).error, 1.0)
    assert 0 < ause(np.zeros(30), loss=LOSS) < ause(-LOSS, loss=LOSS)


def test_scale_of_uncertainty_and_loss_changes_nothing() -> None:
    assert ause(np.exp(U), loss=7 * LOSS) == pytest.approx(ause(U, loss=LOSS))


def test_losses_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match="ause: expected `loss` to be at least 0 and not all 0"):
        ause(U, loss=-LOSS)
    with pytest.raises(RangeError, match="but got losses from 0 to 0"):
        sparsification_curve(U, loss=0 * LOSS)
    with pytest.raises(ShapeError, match=r"`uncertainty` to have shape \(3,\) to match `loss`"):
        ause(U, loss=LOSS[:3])
