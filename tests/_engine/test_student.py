"""Student's interval beside the normal one."""

from math import pi, sqrt, tan

import pytest
from scipy.stats import norm, t

from mcdrop._engine.student import widening

NORMAL = norm.ppf(0.975)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 15, 30, 31, 99, 100, 9999, 123_456])
def test_intervals_of_few_passes_are_widened_as_scipy_does(degrees: int) -> None:
    # SciPy 1.11 finds the quantile of five degrees of freedom to 4e-10.
    assert widening(degrees) == pytest.approx(t.ppf(0.975, degrees) / NORMAL, rel=1e-9)


def test_one_and_two_degrees_have_closed_forms() -> None:
    # A Cauchy variable's quantile, and 2 a / sqrt(1 - a^2) / sqrt(2) for a = 2 q - 1 = 0.95.
    assert widening(1) == pytest.approx(tan(0.475 * pi) / NORMAL, rel=1e-14)
    assert widening(2) == pytest.approx(0.95 * sqrt(2 / (1 - 0.95**2)) / NORMAL, rel=1e-14)


def test_without_degrees_of_freedom_the_widest_interval_stands() -> None:
    assert widening(0) == widening(-3) == widening(1)
