import re
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from mcdrop.report import calibration_report
from mcdrop.report.figures import FIGURES
from mcdrop.report.html import typeset

HOSTILE = '<script>alert("x")</script> & $a_b$ | *bold*'
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Tags(HTMLParser):
    """Collects ids, attributes and text, and checks that tags nest."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attr) for attr in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


@pytest.fixture
def pages(reports, tmp_path):
    return {
        task: report.to_html(tmp_path / f"{task}.html").read_text("utf-8")
        for task, report in reports.items()
    }


def test_a_page_is_whole_and_asks_nothing_of_the_network(pages):
    for page in pages.values():
        tags = parsed(page)
        assert page.startswith("<!DOCTYPE html>")
        assert {"html", "head", "title", "body", "svg"} <= set(re.findall(r"<(\w+)", page))
        assert not re.findall(r"<(script|link|img|iframe)", page)
        assert "@import" not in page
        linked = [value for _, name, value in tags.attributes if name in {"href", "xlink:href"}]
        assert linked
        assert all(value.startswith("#") for value in linked)
        assert not re.findall(r"url\((?!#)", page)


def test_ids_are_unique_and_every_reference_has_its_target(pages):
    for page in pages.values():
        ids = parsed(page).ids
        assert len(ids) == len(set(ids))
        used = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
        assert set(used) <= set(ids)


def test_two_reports_on_one_page_keep_their_ids_apart(reports):
    # The anchors of figures are for links within one page; drawings must not share ids.
    ids = [
        {i for i in parsed(report._repr_html_()).ids if not i.startswith("figure-")}
        for report in reports.values()
    ]
    assert ids[0].isdisjoint(ids[1])


def test_the_same_report_is_the_same_file(reports, tmp_path):
    for report in reports.values():
        first = report.to_html(tmp_path / "a.html").read_bytes()
        assert report.to_html(tmp_path / "b.html").read_bytes() == first


def test_a_date_is_shown_only_if_passed(reports, tmp_path):
    report = reports["regression"]
    dated = report.to_html(tmp_path / "dated.html", date="3 May 2031").read_text("utf-8")
    assert "3 May 2031" in dated
    plain = report.to_html(tmp_path / "plain.html").read_text("utf-8")
    assert dated.replace(" &middot; 3 May 2031", "") == plain


def test_a_page_shows_verdict_numbers_reasons_and_how_it_was_made(reports, pages):
    for task, page in pages.items():
        report = reports[task]
        text = "".join(parsed(page).text)
        assert typeset(report.headline) in text
        for finding in report.findings:
            assert typeset(finding) in text
        assert "layers.2" in text
        assert "It could." in text
        assert "seed 7" in text
        for name in report.curves:
            assert FIGURES[name].title in text
    assert "missing: a point forecast states no uncertainty" in pages["regression"]
    assert "missing: one fixed set of weights has none" in pages["classification"]


def test_everything_the_caller_names_is_escaped(normal_prediction, tmp_path):
    prediction, y = normal_prediction(n=60)
    report = calibration_report(
        prediction, y, baselines={HOSTILE: prediction, "_hidden": prediction},
        title=HOSTILE, name="A<b>", n_resamples=10,
    )  # fmt: skip
    page = report.to_html(tmp_path / "hostile.html", date=HOSTILE).read_text("utf-8")
    parsed(page)
    assert "<script" not in page
    assert "<b>" not in page
    table = report.to_markdown().splitlines()
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table if line.startswith("|")}
    assert columns == {5, 4}  # metric and three methods; metric and two baselines
    assert "<script" not in report.to_markdown().replace("\\<", "")


def test_markdown_carries_headline_findings_and_a_row_per_metric(reports):
    for report in reports.values():
        text = report.to_markdown()
        assert text == str(report)
        assert f"**{report.headline}**" in text
        assert text.count("\n- ") >= len(report.findings)
        assert text.count("\n| ") == 4 + len(report.notes[report.name]) + len(
            set().union(*report.differences.values())
        )


def test_repr_is_one_line(reports):
    shown = repr(reports["regression"])
    assert "\n" not in shown
    assert shown.startswith("CalibrationReport(regression, 120 rows, MC dropout vs Ridge vs Point:")


def test_figures_are_free_of_pyplot_and_leave_settings_alone(reports):
    before = dict(mpl.rcParams)
    for report in reports.values():
        figures = report.figures()
        assert list(figures) == list(report.curves)
        assert all(isinstance(figure, Figure) for figure in figures.values())
    assert dict(mpl.rcParams) == before


def test_figures_do_not_depend_on_the_callers_settings(reports, tmp_path):
    report = reports["regression"]
    plain = report.to_html(tmp_path / "a.html").read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert report.to_html(tmp_path / "b.html").read_bytes() == plain


def test_axes_are_labeled_every_method_is_in_the_key_and_no_text_overlaps(reports):
    for report in reports.values():
        for name, figure in report.figures().items():
            figure.draw_without_rendering()
            axes = figure.axes[0]
            assert axes.get_ylabel() == FIGURES[name].y
            assert figure.axes[-1].get_xlabel() == FIGURES[name].x
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


def test_drawings_are_well_formed_and_scale_with_the_page(pages):
    for page in pages.values():
        drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
        assert len(drawings) == 3
        for drawing in drawings:
            start = drawing[: drawing.index(">")]
            assert "viewBox=" in start
            assert "width=" not in start
            parsed(drawing)
