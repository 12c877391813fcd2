from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.lines import Line2D

from mcdrop.report.figures import (
    FIGURES,
    Look,
    blank,
    house_style,
    key_above,
    looks,
    percent,
    span_of,
)
from mcdrop.report.values import FigureCurve


def test_the_first_method_is_the_main_one_and_looks_do_not_depend_on_the_figure() -> None:
    methods = ["A", "B", "C"]
    seen: dict[str, Look] = {}
    for shown in (methods, ["C", "A"]):
        curves = [FigureCurve(method, (0.0,), (1.0,)) for method in shown]
        for curve, look in looks(curves, methods):
            assert seen.setdefault(curve.method, look) == look
            assert look.main == (curve.method == "A")


def test_percent_scales_shares_and_leaves_counts() -> None:
    curve = FigureCurve("A", (0.5,), (0.25,), (0.125,), (0.375,), (7,))
    assert percent(curve) == FigureCurve("A", (50.0,), (25.0,), (12.5,), (37.5,), (7,))
    assert percent(curve, x=False).x == (0.5,)


def test_the_span_is_wider_than_the_values_even_of_a_constant() -> None:
    assert span_of([0.0, 10.0]) == pytest.approx((-0.6, 10.6))
    assert span_of([5.0, 5.0]) == pytest.approx((4.5, 5.5))
    assert span_of([0.0]) == pytest.approx((-1.0, 1.0))


def test_a_long_key_is_shortened_and_an_underscore_does_not_hide_a_method() -> None:
    with house_style():
        figure, _ = blank(FIGURES["coverage"])
        key_above(figure, [Line2D([], []), Line2D([], [])], ["x" * 60, "_hidden"])
    (key,) = figure.legends
    assert {text.get_text() for text in key.get_texts()} == {"x" * 39 + "…", " _hidden"}


def test_the_style_ends_with_its_block_also_after_an_error() -> None:
    before = dict(mpl.rcParams)
    with pytest.raises(KeyError), house_style():
        raise KeyError
    assert dict(mpl.rcParams) == before


def test_every_caption_is_whole() -> None:
    for caption in FIGURES.values():
        assert caption.reading.endswith(".")
        assert "{level}" in caption.interval
