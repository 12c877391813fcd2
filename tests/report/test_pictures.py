from __future__ import annotations

import re

import pytest

from mcdrop.displays._curve import Curve
from mcdrop.report.pictures import figure_sentence, strip
from mcdrop.report.values import Answer, Mark


def test_the_dot_lies_where_its_value_is_on_the_axis_and_stays_on_it() -> None:
    mark = Mark("A", 0.75, 0.5, 1.2)
    answer = Answer("?", "yes", "", "", "", (mark,), 0.5, "stated", (0.5, 1.0))
    drawing = strip(answer, mark)
    # The axis runs from 8 to 292.
    assert 'cx="150.0"' in drawing
    assert 'class="interval" x1="8.0" x2="292.0"' in drawing
    assert re.search(r'class="reference" x1="8\.0" x2="8\.0"', drawing)
    assert "<text" not in drawing


@pytest.mark.parametrize(
    ("name", "curve", "said"),
    [
        (
            "reliability",
            Curve("A", (0.5, 0.9), (0.2, 0.9), (), (), (), (0.4, 0.8), (0.6, 1.0)),
            "A: 1 of 2 groups lies outside the range if calibrated.",
        ),
        (
            "pit",
            Curve("A", (0.5,), (0.5,), (), (), (), (0.4,), (0.6,)),
            "A: none of 1 bars lie outside the range if calibrated.",
        ),
        ("coverage", Curve("A", (0.5, 0.9), (0.4, 0.72)), "A: intervals of 90 % hold 72 % of"),
        (
            "error_by_uncertainty",
            Curve("A", (0.2, 0.8), (0.01, 0.3)),
            "A: the surest group of rows has an error rate of 1 %, the least sure 30 %.",
        ),
        (
            "referral",
            Curve("A", (0.0, 0.1, 0.2), (3.0, 2.0, 1.0), unit="units of y"),
            "A: the RMSE is 3 on all rows and 2 when 10 % are referred.",
        ),
        ("referral", Curve("A", (0.0,), (0.5,)), "A: the error rate is 50 %, whichever rows are"),
        (
            "convergence",
            Curve("A", (2.0, 64.0), (1.5, 1.25), unit="units of y"),
            "A: the score is 1.5 after 2 passes, 1.25 after 64.",
        ),
    ],
)
def test_a_figure_is_told_in_a_sentence(name: str, curve: Curve, said: str) -> None:
    assert figure_sentence(name, (curve,)).startswith(said)
