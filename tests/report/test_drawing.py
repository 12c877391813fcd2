from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from mcdrop.report.drawing import draw, svg
from mcdrop.report.figures import FIGURES
from tests.report.made import Reports
from tests.report.parsing import parsed


def test_figures_are_free_of_pyplot_and_leave_settings_alone(
    reports: Reports,
) -> None:
    before = dict(mpl.rcParams)
    for report in reports.values():
        figures = report.figures()
        assert list(figures) == list(report.curves)
        assert all(isinstance(figure, Figure) for figure in figures.values())
    assert dict(mpl.rcParams) == before


def test_figures_do_not_depend_on_the_callers_settings(reports: Reports, tmp_path: Path) -> None:
    report = reports["regression"]
    plain = report.to_html(tmp_path / "a.html").read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert report.to_html(tmp_path / "b.html").read_bytes() == plain


def test_axes_are_labeled_every_method_is_in_the_key_and_no_text_overlaps(
    reports: Reports,
) -> None:
    for report in reports.values():
        for name, figure in report.figures().items():
            figure.draw_without_rendering()
            axes = figure.axes[0]
            display = FIGURES[name].display(report.curves[name][0])
            assert axes.get_ylabel() == display.y_label
            assert axes.get_xlabel() == display.x_label
            (key,) = figure.legends
            shown = {text.get_text() for text in key.get_texts()}
            assert {curve.method for curve in report.curves[name]} <= shown
            boxes = [text.get_window_extent() for text in key.get_texts()]
            boxes += [
                label.get_window_extent()
                for part in figure.axes
                for label in (part.xaxis.label, part.yaxis.label)
                if label.get_text()
            ]
            for i, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[i + 1 :])
                assert figure.bbox.padded(1).containsx(box.x1)


def test_drawings_are_well_formed_and_scale_with_the_page(reports: Reports) -> None:
    for report in reports.values():
        for name, figure in report.figures().items():
            drawing = svg(figure, name)
            start = drawing[: drawing.index(">")]
            assert "viewBox=" in start
            assert "width=" not in start
            parsed(drawing)


def test_every_point_of_the_first_method_shows_its_value_when_pointed_at(
    reports: Reports,
) -> None:
    curves = reports["classification"].curves["reliability"]
    drawing = svg(draw("reliability", curves, reports["classification"].methods), "r")
    tips = re.findall(r'<g id="r-tip-\d+"><title>([^<]*)</title>', drawing)
    first = curves[0]
    assert len(tips) == len(first.x)
    assert tips[0].startswith(f"{100 * first.y[0]:.3g} [{100 * first.low[0]:.3g}, ")
    assert tips[0].endswith(f" at {100 * first.x[0]:.3g}, {first.count[0]} rows")


def test_colors_of_the_palette_follow_the_theme_of_the_page(reports: Reports) -> None:
    report = reports["regression"]
    for name, figure in report.figures().items():
        drawing = svg(figure, name)
        assert "var(--color-0, #0072b2)" in drawing
        assert "var(--ink, #1d232b)" in drawing
