"""Recalibrations that are baked in are those of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mcdrop
from mcdrop._export.recalibrating import Steps, steps_of
from mcdrop._export.summary import ClassSummary, RegressionSummary
from mcdrop.recalibration import (
    ConformalClassifier,
    ConformalRegressor,
    IsotonicRecalibration,
    StdScaling,
    TemperatureScaling,
)
from tests._export.models import made

REGRESSION = ("mean", "std", "epistemic_std")
CLASSES = ("probs", "probs_std", "predictive_entropy", "mutual_information")


def passes_of_classes(n_rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = 3 * torch.randn(1, n_rows, 4, generator=generator)
    return first + torch.randn(8, n_rows, 4, generator=generator)


def classes(logits: Tensor) -> mcdrop.ClassificationPrediction:
    return mcdrop.ClassificationPrediction.from_samples(logits.softmax(dim=2))


def numbers(passes: Tensor, noise: float = 0.3) -> mcdrop.RegressionPrediction:
    return mcdrop.RegressionPrediction.from_samples(passes, noise_std=noise)


# Mostly the first of the passes, so that probabilities say something of them, but not all.
LABELS = passes_of_classes(60)[0].argmax(dim=1)
LABELS[::4] = (LABELS[::4] + 1) % 4
TARGETS = torch.randn(60, 2, generator=torch.Generator().manual_seed(2)) * 3


def fitted(each: Any) -> Any:
    if isinstance(each, StdScaling | ConformalRegressor):
        return each.fit(numbers(passes_of_classes(60)[..., :2]).as_normal(), TARGETS)
    return each.fit(classes(passes_of_classes(60)), LABELS)


def summarized(steps: Steps, passes: Tensor, *, of_classes: bool) -> dict[str, Tensor]:
    summary: Any = RegressionSummary(8, stratified=False, noise_std=torch.tensor(0.3))
    if of_classes:
        summary = ClassSummary(
            8,
            stratified=False,
            output_type="logits",
            binary=False,
            multilabel=False,
            temperature=steps.temperature,
        )
    found: dict[str, Tensor] = steps.added_to(summary)(passes)
    return found


def same_but_for_ties(sets: Tensor, prediction: Any, conformal: ConformalClassifier) -> None:
    """Sets are the same where rounding does not decide; ties belong to the set."""
    expected = prediction.prediction_sets(prediction.level)
    far = (prediction.class_scores - conformal.threshold[0]).abs() > 1e-5
    assert far.float().mean() > 0.6
    assert torch.equal(sets[far], expected[far])
    exact = prediction.class_scores <= conformal.threshold[0] - 1e-6
    assert bool(sets[exact].all())


@pytest.mark.parametrize(
    "steps",
    [
        [TemperatureScaling()],
        [TemperatureScaling("passes")],
        [ConformalClassifier()],
        [ConformalClassifier("aps", seed=None)],
        [ConformalClassifier("raps", level=0.8, seed=None, penalty=0.2)],
        [TemperatureScaling(), ConformalClassifier(level=0.7)],
        [TemperatureScaling("passes"), ConformalClassifier("aps", seed=None)],
    ],
)
def test_classes_are_recalibrated_as_predictions_are(steps: list[Any]) -> None:
    given = [fitted(each) for each in steps]
    passes = passes_of_classes(30, seed=5)
    # A row of which every pass is certain to the last bit, and one of equal probabilities.
    passes[:, 0], passes[:, 1] = torch.tensor([0.0, 200.0, -200.0, -200.0]), 0.0
    found = summarized(steps_of("export", given), passes, of_classes=True)
    prediction: Any = classes(passes)
    for each in given:
        prediction = each(prediction)
    for name in CLASSES:
        values = getattr(prediction, name)
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-4, check_dtype=False)
    if "prediction_set" in found:
        same_but_for_ties(found["prediction_set"], prediction, given[-1])


@pytest.mark.parametrize(
    "steps",
    [
        [StdScaling()],
        [ConformalRegressor()],
        [ConformalRegressor("normalized", level=0.7)],
        [StdScaling(), ConformalRegressor("normalized")],
    ],
)
def test_regressions_are_recalibrated_as_predictions_are(steps: list[Any]) -> None:
    given = [fitted(each) for each in steps]
    passes = passes_of_classes(30, seed=5)[..., :2]
    found = summarized(steps_of("export", given), passes, of_classes=False)
    prediction: Any = numbers(passes)
    for each in given:
        prediction = each(prediction)
    for name in (*REGRESSION, *(("lower", "upper") if "lower" in found else ())):
        values = getattr(prediction, name)
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-5, check_dtype=False)


def test_a_factor_by_hand() -> None:
    one = torch.ones(2, 1)
    known = mcdrop.RegressionPrediction.from_mean_std(0 * one, one)
    # sqrt((1 + 49) / 2) = 5, and of scores 1, 7 the ceil(3 * 0.6) = second.
    scaling = StdScaling().fit(known, [1.0, 7.0])
    interval = ConformalRegressor(level=0.6).fit(known, [1.0, 7.0])
    passes = torch.tensor([[[0.0]], [[2.0]]])
    steps = steps_of("export", [scaling, interval])
    summary = steps.added_to(RegressionSummary(2, stratified=False))
    found = {name: float(x) for name, x in summary(passes).items()}
    assert found == pytest.approx(
        {"mean": 1.0, "std": 5 * 2**0.5, "epistemic_std": 5 * 2**0.5, "lower": -6.0, "upper": 8.0}
    )


def refused() -> list[tuple[Any, str]]:
    groups = ["a"] * 30 + ["b"] * 30
    prediction = numbers(passes_of_classes(60)[..., :2]).as_normal()
    grouped = ConformalRegressor().fit(prediction, TARGETS, groups=groups)
    mixture = numbers(passes_of_classes(60)[..., :2])
    return [
        (IsotonicRecalibration(), "but got IsotonicRecalibration. Apply it to what the program"),
        (grouped, "one for 2 groups of rows, which a program cannot tell apart. Fit it without"),
        (
            ConformalRegressor("quantile").fit(mixture, TARGETS),
            "ConformalRegressor of method 'quantile', which needs quantiles over all passes",
        ),
        (
            fitted(ConformalClassifier("aps")),
            'hashes the bytes of a row. Fit ConformalClassifier\\("aps", seed=None\\)',
        ),
        (
            [fitted(TemperatureScaling()), fitted(TemperatureScaling("passes"))],
            "TemperatureScaling of passes after another step, or of several networks",
        ),
        (TemperatureScaling(), "expected `self` to be fitted"),
        (StdScaling(), "expected `self` to be fitted"),
        (ConformalRegressor(), "ConformalRegressor.threshold: expected `self` to be fitted"),
        ("temperature", "but got str"),
    ]


def test_what_needs_more_than_a_program_returns_is_refused() -> None:
    for given, text in refused():
        with pytest.raises(mcdrop.UnsupportedError, match=text):
            steps_of("export", given)
    passes = fitted(TemperatureScaling("passes"))
    with pytest.raises(mcdrop.UnsupportedError, match="of several networks"):
        steps_of("export", passes, members=True)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("on", ["mean", "passes"])
def test_a_program_holds_temperature_and_sets(on: Any, suffix: str, tmp_path: Path) -> None:
    model, x = made("mlp")
    rows = torch.randn(200, 6)
    mc = mcdrop.wrap(model, masks="shared")
    options: dict[str, Any] = {"n_samples": 16, "seed": 1, "task": "classification"}
    held_out = mc.predict_with_uncertainty(rows, keep_samples=True, **options)
    labels = torch.distributions.Categorical(held_out.probs**2).sample()
    temperature = TemperatureScaling(on).fit(held_out, labels)
    sets = ConformalClassifier("aps", seed=None).fit(temperature(held_out), labels)
    path = tmp_path / f"m{suffix}"
    mcdrop.export(model, x, path, recalibration=[temperature, sets], **options)
    new = torch.randn(40, 6)
    expected = sets(temperature(mc.predict_with_uncertainty(new, keep_samples=True, **options)))
    if suffix == ".pt2":
        found = torch.export.load(path).module()(new)
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path)
        names = [each.name for each in session.get_outputs()]
        given = {session.get_inputs()[0].name: new.numpy()}
        outputs = map(torch.from_numpy, session.run(None, given))
        found = dict(zip(names, outputs, strict=True))
    for name in CLASSES:
        torch.testing.assert_close(found[name], getattr(expected, name), atol=1e-5, rtol=1e-3)
    same_but_for_ties(found["prediction_set"], expected, sets)


@pytest.mark.slow
def test_a_program_holds_intervals_that_cover(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2))
    model.append(torch.nn.Linear(16, 1))
    rows = torch.randn(4000, 6)
    y = model.eval()(rows).detach() + torch.randn(4000, 1)
    mc = mcdrop.wrap(model, masks="shared")
    held_out = mc.predict_with_uncertainty(rows[:2000], n_samples=32, seed=0, control_variate=False)
    interval = ConformalRegressor("normalized", level=0.8).fit(held_out, y[:2000])
    mcdrop.export(model, rows[:5], tmp_path / "m.pt2", recalibration=interval)
    found = torch.export.load(tmp_path / "m.pt2").module()(rows[2000:])
    inside = ((found["lower"] <= y[2000:]) & (y[2000:] <= found["upper"])).float().mean()
    # Binomial in 2000 rows around a coverage that varies by as much with the calibration rows.
    assert abs(float(inside) - 0.8) < 4 * np.sqrt(2 * 0.8 * 0.2 / 2000)
