"""The scripts of the gallery: each finding holds, and the page says what was measured."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mcdrop.baselines import equivalent_ridge_penalty

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "gallery"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "gallery")


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script under its own name, and forget it and what it imports afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module(request.param)
    for name in set(sys.modules) - before:
        if name in {"gallery", *SCRIPTS}:
            del sys.modules[name]


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("script", [name], indirect=True)


def test_the_page_shows_every_script_with_what_it_printed() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    record = json.loads((ROOT / "docs" / "data" / "gallery.json").read_text())
    assert sorted(record) == SCRIPTS
    for name, lines in record.items():
        shown = "\n".join([f"$ python examples/gallery/{name}.py", *lines])
        assert f"```text\n{shown}\n```" in page, name
        assert f"](images/gallery/{name}.png)" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_trial_run_prints_draws_and_records(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    command = [str(FOLDER / f"{name}.py"), "--small", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--record", str(record)])
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        for other in {"gallery", *SCRIPTS} & set(sys.modules):
            del sys.modules[other]
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert capsys.readouterr().out.splitlines() == json.loads(record.read_text())[name]


@pytest.mark.slow
@of("overfitting")
def test_the_over_fitted_network_loses_on_fresh_points(script: Any) -> None:
    found = script.measure()
    assert found.last("plain", "training") < script.NOISE**2 / 3
    assert found.last("plain", "test") > 1.2 * found.last("dropout", "test")
    assert found.last("dropout", "test") > script.NOISE**2


@of("standard_and_inverted")
def test_both_kinds_of_dropout_predict_their_mean_over_masks(script: Any) -> None:
    found = script.measure(True)
    for values, prediction in (
        (found.standard, found.scaled),
        (found.inverted, found.untouched),
    ):
        error = values.std().item() / len(values) ** 0.5
        assert abs(values.mean().item() - prediction) < 4 * error
    assert found.as_torch
    assert abs(found.standard.mean().item() - found.forgotten) > 1


@of("subnetworks")
def test_passes_reach_the_moments_of_all_sub_networks(script: Any) -> None:
    found = script.measure(True)
    assert len(found.masks) == 2**script.UNITS
    assert found.chances.sum().item() == pytest.approx(1)
    for mean, error in zip(found.means, found.errors, strict=True):
        assert abs(mean - found.mean) < 4 * error
    # The standard error of a std of S draws is about 1 / sqrt(2 S), 2 % here.
    assert found.std == pytest.approx(found.exact_std, rel=0.1)


@pytest.mark.slow
@of("coadaptation")
def test_units_trained_without_dropout_cannot_be_removed(script: Any) -> None:
    plain, dropped = script.measure(True).errors.values()
    for removed in (1, -1):
        assert plain[removed] / plain[0] > 2 * dropped[removed] / dropped[0]


@pytest.mark.slow
@of("spatial_dropout")
def test_neighbors_explain_a_pixel_and_whole_maps_spread_the_passes(script: Any) -> None:
    found = script.measure(True)
    assert found.explained > 0.3
    assert found.spread["whole maps"] > 1.2 * found.spread["pixels"]
    dropped = found.whole.flatten(1).abs().sum(dim=1) == 0
    assert bool((dropped | (found.whole == found.maps).flatten(1).all(dim=1)).all())


@of("drop_connect")
def test_variances_agree_and_only_dropped_units_correlate(script: Any) -> None:
    found = script.measure(True)
    n = len(found.samples["units"])
    for kind, samples in found.samples.items():
        exact = found.covariance[kind].diag().sqrt()
        torch.testing.assert_close(samples.std(dim=0), exact, rtol=5 / (2 * n) ** 0.5, atol=0)
        gap = found.correlation(kind) - found.exact_correlation(kind)
        assert abs(gap) < 4 / n**0.5
    assert found.exact_correlation("weights") == 0
    assert abs(found.exact_correlation("units")) > 0.3


@pytest.mark.slow
@of("sequence")
def test_a_locked_mask_makes_deviations_persist(script: Any) -> None:
    found = script.measure(True)
    fresh, locked = found.agreement.values()
    assert fresh < 0.5
    assert locked > 0.8


@of("ridge")
def test_training_under_dropout_converges_to_ridge(script: Any) -> None:
    found = script.measure(True)
    # The plain least squares of these collinear columns, rate 0, take more steps than a trial has.
    gap = (found.trained - found.exact)[1:].abs().max()
    assert gap < 0.03 * found.exact[1:].abs().max()
    X = torch.randn(50, 3, dtype=torch.float64)
    y = X.sum(dim=1)
    # Standardized rows: the penalty is p / (1 - p) diag(X'X), by hand for p = 0.5.
    by_hand = torch.linalg.solve(X.T @ X + (X.T @ X).diag().diag(), X.T @ y)
    torch.testing.assert_close(script.ridge(X, y, 0.5), by_hand)
    assert equivalent_ridge_penalty(X, 0.5)[0] == pytest.approx(X[:, 0].square().sum().item())


@pytest.mark.slow
@of("passes_by_hand")
def test_the_loop_by_hand_agrees_within_its_error(script: Any) -> None:
    found = script.measure(True)
    # Rows are independent given independent masks; stated errors are a little wide.
    assert abs(found.scaled.mean().item()) < 4 / len(found.x) ** 0.5
    assert 0.8 < found.scaled.std().item() < 1.1
    ratio = found.std["mcdrop"] / found.std["by hand"]
    assert ratio.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@of("rates_per_layer")
def test_some_dropout_beats_none_and_too_much(script: Any) -> None:
    found = script.measure()
    assert found.nll.min() < found.nll[0, 0] < found.nll[-1, -1]
    assert found.nll[-1, 0] > found.nll[0, -1]
    assert found.nll.min().item() <= found.best_common


@pytest.mark.slow
@of("batch_norm")
def test_variances_match_with_dropout_alive_alone(script: Any) -> None:
    found = script.measure(True)
    assert found.off[0] == pytest.approx(1, abs=0.05)
    assert max(found.off[1:]) < 0.9
    assert found.alive == pytest.approx([1] * len(found.alive), abs=0.06)
    assert found.moved["mcdrop"] == 0
    assert found.moved["train()"] > 0.01


@pytest.mark.slow
@of("training_choices")
def test_the_learning_rate_decides_and_narrow_networks_bear_no_dropout(script: Any) -> None:
    slow, fast = (script.Setting(learning_rate=lr, rate=0.0) for lr in (0.0003, 0.1))
    errors = script.train_many([slow, fast], 200, seed=0)
    assert errors[0] > 2 * errors[1]
    narrow = [script.Setting(width=12, rate=rate) for rate in (0.0, 0.5)]
    plain, dropped = sum(script.train_many(narrow, 300, seed) for seed in range(3))
    assert dropped > 1.2 * plain


@of("in_between")
def test_the_variance_is_convex_and_so_not_larger_in_the_gap(script: Any) -> None:
    found = script.measure(True)
    variance = found.found["MC dropout"].epistemic_variance
    assert bool((variance.diff(n=2) >= -1e-9 * variance.max()).all())
    assert found.ratio("MC dropout") <= 1 + 1e-9
    assert found.ratio("Gaussian process") > 3


@pytest.mark.slow
@of("outside_the_data")
def test_networks_are_wrong_and_sure_outside_the_data(script: Any) -> None:
    found = script.measure()
    for name in ("tanh units", "ReLU units"):
        assert found.coverage(name, outside=False) > 0.8
        assert found.coverage(name, outside=True) < 0.5
    assert found.growth("tanh units") < 1.2
    # Twice a spread that is linear in x would be 6 / 4 = 1.5 for lines through 0.
    assert found.growth("ReLU units") < 2.5
    assert found.coverage("Gaussian process", outside=True) > 0.9


@pytest.mark.slow
@of("repairs")
def test_recalibration_mends_the_intervals_where_there_are_data(script: Any) -> None:
    found = script.measure(True)
    assert found.coverage["passes alone"]["among the data"] < 0.8
    assert found.coverage["passes, recalibrated"]["among the data"] == pytest.approx(0.9, abs=0.08)
