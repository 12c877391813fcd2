"""The studies of digits, CO2 and sentences: their parts, their records, and trial runs."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
STUDIES = ("digits", "co2_forecast", "sentences")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def record(name: str) -> Any:
    return json.loads((ROOT / "docs" / "data" / f"{name}.json").read_text())


def test_a_path_of_independent_months_needs_a_wider_band(part: Callable[[str], Any]) -> None:
    bands = part("studies.bands")
    random = np.random.default_rng(0)
    paths = 5 + 3 * random.normal(size=(40_000, 12))
    # P(max of 12 |z| <= c) = (2 Phi(c) - 1)^12 = 0.95.
    c = norm.ppf((1 + 0.95 ** (1 / 12)) / 2)
    assert bands.pointwise(paths, 0.95).factor == pytest.approx(norm.ppf(0.975), abs=0.02)
    fresh = 5 + 3 * random.normal(size=(2000, 12))
    band = bands.pathwise(paths, 0.95)
    assert band.factor == pytest.approx(c, abs=0.03)
    held = np.mean([band.holds(path) for path in fresh])
    # Four standard errors of a share of 0.95 among 2000.
    assert held == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


def test_months_that_move_as_one_need_no_wider_band(part: Callable[[str], Any]) -> None:
    bands = part("studies.bands")
    paths = np.random.default_rng(0).normal(size=(5000, 1)) * np.arange(1.0, 13.0)
    pathwise, pointwise = bands.pathwise(paths, 0.95), bands.pointwise(paths, 0.95)
    assert pathwise.factor == pytest.approx(pointwise.factor)
    assert pathwise.width == pytest.approx((pathwise.upper - pathwise.lower).mean())


def test_a_stretched_band_looks_at_earlier_truths_alone(part: Callable[[str], Any]) -> None:
    bands = part("studies.bands")
    center, std = np.zeros(2), np.ones(2)
    each = [bands.Band(center, std, 1.0)] * 5
    truths = [np.array([0.0, k]) for k in (3.0, 1.0, 2.0, 9.0, 4.0)]
    found = bands.stretched(each, truths, 0.75)
    # ceil((n + 1) 0.75) <= n from n = 3 on: the third of 1 2 3, then the fourth of 1 2 3 9.
    assert [None if band is None else band.factor for band in found] == [None] * 3 + [3.0, 9.0]
    assert not found[3].holds(truths[3])
    assert found[4].share(truths[4]) == 1


def test_images_move_as_told(part: Callable[[str], Any]) -> None:
    corruptions = part("studies.corruptions")
    X = torch.rand(3, 1, 8, 8)
    right = torch.zeros_like(X)
    right[..., 1:] = X[..., :-1]
    torch.testing.assert_close(corruptions.moved(X, 0.0, 1.0), right)
    torch.testing.assert_close(corruptions.moved(X, 0.0, 0.0), X)
    turned = corruptions.moved(X, 90.0, 0.0)
    torch.testing.assert_close(turned, torch.rot90(X, 1, (2, 3)), atol=1e-5, rtol=0)
    shown = corruptions.conditions(X, 0)
    torch.testing.assert_close(shown["shifted 2"], right)
    assert len(shown) == 16
    assert all(0 <= float(x.min()) <= float(x.max()) <= 1 + 1e-6 for x in shown.values())


def test_no_function_is_on_both_sides_and_near_copies_are_dropped(
    part: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences, documentation = part("sentences"), part("studies.documentation")
    monkeypatch.setattr(sentences, "N_TRAIN", 12)
    monkeypatch.setattr(sentences, "N_TEST", 4)
    given = [
        documentation.Sentence(f"word{'abcdefghij'[f]} number{k} of field {f}", f, f"{f}.{k // 3}")
        for f in range(8)
        for k in range(30)
    ]
    found = sentences.split(given, 0)
    assert {s.field for s in found.train} == set(range(8))
    assert not {s.function for s in found.train} & {s.function for s in found.test}

    def of(text: str) -> Any:
        return documentation.Sentence(text, 0, "f")

    # Three words of five are 0.6, two of six are not.
    copies = sentences.near_copies(
        [of("the mean of x"), of("the mean of rows"), of("a sum")], [of("the mean of y")]
    )
    assert copies == [True, True, False]
    assert sentences.near_copies([of("the mean of"), of("no")], [of("the mean by sum and")]) == [
        False,
        False,
    ]


def test_words_without_a_number_are_skipped(part: Callable[[str], Any]) -> None:
    sentences = part("sentences")
    ids = sentences.encoded(["The mean, not the mode.", "?"], {"the": 1, "mean": 2})
    assert ids[:, :5].tolist() == [[1, 2, 1, 0, 0], [0] * 5]
    net = sentences.Reader(2).eval()
    torch.testing.assert_close(net(ids[:1]), net(torch.tensor([[1, 1, 2]])))


def test_the_series_is_that_of_statsmodels(part: Callable[[str], Any]) -> None:
    co2 = pytest.importorskip("statsmodels.datasets.co2")
    months = co2.load_pandas().data["co2"].resample("MS").mean().dropna()
    np.testing.assert_allclose(part("studies.extrapolation").series().ppm, months, atol=6e-4)


def test_passes_and_path_wise_bands_gain_on_record(part: Callable[[str], Any]) -> None:
    scores = record("digits")["scores"]

    def corrupted(method: str) -> Any:
        return np.mean([v for k, v in scores[method]["NLL"].items() if k != "clean"], axis=0)

    def clean(method: str) -> Any:
        return np.array(scores[method]["NLL"]["clean"])

    # What the page says of the digits, the worse one first.
    for of, worse, better in (
        (corrupted, "batch repetition, off", "batch repetition, MC"),
        (corrupted, "deep ensemble", "batch repetition, MC"),
        (corrupted, "last layer, MC", "every layer, MC"),
        (corrupted, "whole filters, MC", "every layer, MC"),
        (corrupted, "batch repetition, MC", "whole filters, MC"),
        (corrupted, "four times the steps, MC", "batch repetition, MC"),
        (clean, "whole filters, MC", "batch repetition, MC"),
        (clean, "batch repetition, MC", "four times the steps, MC"),
    ):
        gain = of(worse) - of(better)
        assert gain.mean() > 3 * gain.std(ddof=1) / len(gain) ** 0.5, (worse, better)
    held = record("co2_forecast")["forecasts"]["held"]
    for found in held.values():
        # The wider band can lose no year.
        assert all(np.array(found["pathwise, years"]) >= np.array(found["pointwise, years"]))
    text = record("sentences")["scores"]
    gain = np.subtract(text["dropout off"]["NLL"], text["MC dropout"]["NLL"])
    assert gain.mean() > 3 * gain.std(ddof=1) / len(gain) ** 0.5


@pytest.mark.parametrize("name", STUDIES)
def test_records_say_where_they_come_from(name: str) -> None:
    found = record(name)
    assert found["command"].startswith(f"python examples/{name}.py")
    assert {"date", "versions", "hardware", "settings", "cpu_seconds"} <= set(found)
    page = (ROOT / "docs" / "published-results.md").read_text()
    assert f"](images/{name}.png)" in page
    assert f"](data/{name}.json)" in page
    assert (ROOT / "docs" / "images" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_trial_run_draws_and_records_and_redraws(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    threads = torch.get_num_threads()
    record, picture = tmp_path / "record.json", tmp_path / f"{name}.png"
    command = [str(EXAMPLES / f"{name}.py"), "--out", str(tmp_path)]
    try:
        for options in (["--smoke", "--json", str(record)], ["--redraw", str(record)]):
            monkeypatch.setattr(sys, "argv", [*command, *options])
            runpy.run_path(command[0], run_name="__main__")
            assert picture.stat().st_size > 10_000
            picture.unlink()
    finally:
        torch.set_num_threads(threads)
    assert "settings" in json.loads(record.read_text())
    first, second = capsys.readouterr().out.split(f"Report: {picture}")[:2]
    told = [line for line in first.splitlines() if " ± " in line]
    assert told == [line for line in second.splitlines() if " ± " in line]
