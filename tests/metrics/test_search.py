"""Minimum of a function of one positive number."""

from __future__ import annotations

import math

import pytest

from mcdrop.metrics._search import positive_minimum


def test_smooth_valley_is_found_to_its_bottom() -> None:
    found, inside = positive_minimum(lambda t: (math.log(t) - 1.0) ** 2, 1e-3, 1e3)
    assert inside
    assert found == pytest.approx(math.e, rel=1e-6)


def test_deepest_of_two_valleys_wins() -> None:
    def loss(t: float) -> float:
        x = math.log(t)
        return min((x + 2) ** 2, (x - 2) ** 2 - 0.1)

    assert positive_minimum(loss, 1e-3, 1e3)[0] == pytest.approx(math.exp(2), rel=1e-6)


@pytest.mark.parametrize(("slope", "end"), [(1.0, 0.01), (-1.0, 100.0)])
def test_falling_to_an_end_is_told(slope: float, end: float) -> None:
    found, inside = positive_minimum(lambda t: slope * math.log(t), 0.01, 100.0)
    assert found == pytest.approx(end)
    assert not inside
