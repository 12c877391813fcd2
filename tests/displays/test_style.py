from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.lines import Line2D

from mcdrop.displays._style import blank, house_style, key_above, look_of, next_look, span_of


def test_only_the_first_look_is_the_main_one_and_looks_repeat_after_the_palette() -> None:
    looks = [look_of(i) for i in range(8)]
    assert [look.main for look in looks] == [True] + 7 * [False]
    assert len({look.color for look in looks[:6]}) == 6
    assert looks[6].color == looks[0].color


def test_displays_on_the_same_axes_take_one_look_after_the_other() -> None:
    _, axes = blank()
    assert next_look(axes) == (look_of(0), True)
    assert next_look(axes) == (look_of(1), False)
    _, other = blank()
    assert next_look(other) == (look_of(0), True)


def test_the_span_is_wider_than_the_values_even_of_a_constant() -> None:
    assert span_of([0.0, 10.0]) == pytest.approx((-0.6, 10.6))
    assert span_of([5.0, 5.0]) == pytest.approx((4.5, 5.5))
    assert span_of([0.0]) == pytest.approx((-1.0, 1.0))


def test_a_long_key_is_shortened_and_an_underscore_does_not_hide_a_method() -> None:
    with house_style():
        figure, _ = blank()
        key_above(figure, [Line2D([], []), Line2D([], [])], ["x" * 60, "_hidden"])
    (key,) = figure.legends
    assert {text.get_text() for text in key.get_texts()} == {"x" * 29 + "…", " _hidden"}


def test_the_style_ends_with_its_block_also_after_an_error() -> None:
    before = dict(mpl.rcParams)
    with pytest.raises(KeyError), house_style():
        raise KeyError
    assert dict(mpl.rcParams) == before
