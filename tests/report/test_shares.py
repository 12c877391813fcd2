from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdrop.report.shares import share_difference, share_estimate


def test_a_share_has_width_at_its_ends_and_counts_rows_not_outputs() -> None:
    # Wilson at k = n: low = n / (n + z^2), z = 1.959964.
    whole = share_estimate(torch.ones(20, 3), 0.95)
    assert (whole.value, whole.high, whole.n) == (1.0, 1.0, 20)
    assert whole.low == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)
    none = share_estimate(torch.zeros(20), 0.95)
    assert (none.low, none.high) == pytest.approx((0.0, 1 - whole.low))


def test_newcombe_by_hand() -> None:
    # Of 50 rows 36 are right by both, 12 by the first only, 2 by the second only: difference 0.20.
    # Wilson by hand: p = 48/50 in [0.8654, 0.9890], q = 38/50 in [0.6259, 0.8570];
    # phi = (36 * 0 - 12 * 2) / sqrt(48 * 2 * 38 * 12) = -0.1147, not corrected as it is negative.
    a = torch.tensor([1] * 36 + [1] * 12 + [0] * 2)
    b = torch.tensor([1] * 36 + [0] * 12 + [1] * 2)
    found = share_difference(a, b, 0.95)
    x, y, phi = 0.96 - 0.8654, 0.8570 - 0.76, -0.1147
    assert found.value == pytest.approx(0.20)
    assert found.low == pytest.approx(0.20 - (x**2 - 2 * phi * x * y + y**2) ** 0.5, abs=2e-4)
    x, y = 0.9890 - 0.96, 0.76 - 0.6259
    assert found.high == pytest.approx(0.20 + (x**2 - 2 * phi * x * y + y**2) ** 0.5, abs=2e-4)
    swapped = share_difference(b, a, 0.95)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("right", [10, 19, 20])
def test_a_difference_keeps_its_width_also_of_equal_outcomes(right: int) -> None:
    outcomes = torch.tensor([1] * right + [0] * (20 - right))
    found = share_difference(outcomes, outcomes, 0.95)
    assert found.value == 0
    assert -0.3 < found.low < -0.05
    assert 0.05 < found.high < 0.3


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_interval_of_a_difference_holds_the_truth(n: int) -> None:
    # Shares .95 and .90 that are right together; truth .05.
    draw, held = np.random.default_rng(n), 0
    for _ in range(400):
        u = torch.from_numpy(draw.random((n, 2)))
        a = u[:, 0] < 0.95
        b = torch.where(u[:, 1] < 0.5, u[:, 0] < 0.90, torch.from_numpy(draw.random(n) < 0.90))
        found = share_difference(a, b, 0.95)
        held += found.low <= 0.05 <= found.high
    # At least 93 %, less two binomial standard errors.
    assert held / 400 >= 0.93 - 2 * (0.05 * 0.95 / 400) ** 0.5
