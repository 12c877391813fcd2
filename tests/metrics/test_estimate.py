"""How an estimate is written."""

from __future__ import annotations

import math

from mcdrop.metrics import Estimate


def test_text_shows_two_digits_of_the_width() -> None:
    def text(value: float, low: float, high: float) -> str:
        return str(Estimate(value, low, high, 0.0, 0.95, 10, "bca"))

    assert text(0.1234, 0.1011, 0.1502) == "0.123 [0.101, 0.150]"
    assert text(12345.6, 12001.2, 12702.9) == "12346 [12001, 12703]"
    assert text(2.0, 2.0, 2.0) == "2 [2, 2]"
    assert text(math.inf, 1.0, math.inf) == "inf [1, inf]"
    assert text(3e-9, 2e-9, 4e-9) == "3e-09 [2e-09, 4e-09]"
