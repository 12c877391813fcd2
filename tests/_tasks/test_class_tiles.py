"""Statistics of tiles in float32: those of float64, in which every pass is widened."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._tasks.accumulate import ClassificationAccumulator
from mcdrop._tasks.class_tiles import ClassTile, TwoClassTile
from mcdrop._tasks.likelihoods import OutputType

N_CLASSES, N_PLACES = 4, 60


def tile_of(scores: Tensor, groups: PassGroups, output_type: OutputType = "logits") -> ClassTile:
    tile = ClassTile(groups, output_type, 0)
    for chunk in scores.split(len(scores) if groups.on_grid else 16):
        tile.update(chunk.clone())
    return tile


def expected(scores: Tensor, groups: PassGroups, output_type: OutputType) -> dict[str, Tensor]:
    """Return what the accumulator of small outputs says, in float64."""
    accumulator = ClassificationAccumulator("f", 0, False, groups, output_type=output_type)
    accumulator.update(scores.double().unsqueeze(1))
    return {name: x[0] for name, x in accumulator.result()._tensors().items()}


def scores_of(n: int, scale: float, spread: float, n_classes: int = N_CLASSES) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    means = scale * torch.randn(1, n_classes, N_PLACES, generator=generator)
    return means + spread * torch.randn(n, n_classes, N_PLACES, generator=generator)


# Uncertain places, confident ones (1 - p down to 1e-15), and passes that hardly differ.
@pytest.mark.parametrize(("scale", "spread"), [(1, 1), (10, 0.3), (1, 1e-2)])
@pytest.mark.parametrize(
    ("n", "stratified"), [(2, True), (3, False), (16, True), (20, True), (40, True), (100, False)]
)
def test_statistics_are_those_of_float64(
    n: int, stratified: bool, scale: float, spread: float
) -> None:
    scores = scores_of(n, scale, spread)
    groups = PassGroups(n, stratified=stratified, rates=(0.2,))
    found, whole = tile_of(scores, groups).result(), expected(scores, groups, "logits")
    assert found.keys() == whole.keys()
    for name, value in found.items():
        # float32 leaves 1e-5 of a spread of 1 %, and where passes are few and nearly the same, less
        # of the difference of two spreads. Monte Carlo errors are 10 % and more of either.
        digits = {"probs": 1e-6, "expected_entropy": 1e-6, "probs_std": 1e-4}
        torch.testing.assert_close(
            value.double(), whole[name], rtol=digits.get(name, 1e-3), atol=1e-7, equal_nan=True
        )


def test_spread_of_a_certain_class_keeps_its_digits() -> None:
    # Odds of 1e-9: 1 - p is far below what float32 resolves next to 1.
    odds = torch.tensor([1e-9, 3e-9] * 10, dtype=torch.float64)
    scores = torch.stack([torch.zeros_like(odds), odds.log()], dim=1).unsqueeze(2).float()
    found = tile_of(scores, PassGroups(20)).result()
    std = torch.tensor([1e-9, 3e-9] * 10, dtype=torch.float64).std()
    np.testing.assert_allclose(found["probs_std"][:, 0], std.repeat(2), rtol=1e-5)
    # H(p) = p - p log p for small p, with the mean 2e-9.
    entropies = odds - odds * odds.log()
    np.testing.assert_allclose(found["expected_entropy"][0], entropies.mean(), rtol=1e-5)


@pytest.mark.parametrize("output_type", ["probs", "log_probs"])
@pytest.mark.parametrize("n", [20, 40])
def test_probabilities_are_taken_as_they_are(n: int, output_type: OutputType) -> None:
    probs = scores_of(n, 4, 1).softmax(dim=1)
    values = probs if output_type == "probs" else probs.log()
    groups = PassGroups(n, stratified=True)
    found, whole = (
        tile_of(values, groups, output_type).result(),
        expected(values, groups, output_type),
    )
    for name, value in found.items():
        torch.testing.assert_close(value.double(), whole[name], rtol=1e-3, atol=1e-6, msg=name)
    # They may be rounded to half precision, and do not sum to one then.
    rounded = probs.half().float()
    mean = tile_of(rounded, groups, "probs").result()["probs"]
    torch.testing.assert_close(mean, rounded.mean(dim=0))


def test_the_first_of_equally_likely_classes_has_the_vote() -> None:
    # In float16 scores are often the same; passes 0 to 2 vote for classes 1, 0 and 2.
    scores = torch.tensor([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 3.0]]).unsqueeze(2)
    assert tile_of(scores, PassGroups(3)).result()["variation_ratio"].tolist() == [
        pytest.approx(2 / 3)
    ]
    # One more for class 1 makes it two of four.
    more = torch.cat([scores, scores[:1]])
    assert tile_of(more, PassGroups(4)).result()["variation_ratio"].tolist() == [0.5]


@pytest.mark.parametrize("output_type", ["logits", "probs"])
def test_a_class_without_any_probability_changes_nothing(output_type: OutputType) -> None:
    probs = scores_of(20, 1, 1).softmax(dim=1)
    with_another = torch.cat([probs, torch.zeros_like(probs[:, :1])], dim=1)
    values = with_another if output_type == "probs" else with_another.log().clamp_min(-1e38)
    groups = PassGroups(20, stratified=True)
    found = tile_of(values, groups, output_type).result()
    for name, value in expected(probs, groups, "probs").items():
        ours = found[name] if found[name].ndim == 1 else found[name][:-1]
        torch.testing.assert_close(ours.double(), value, rtol=1e-3, atol=1e-6, msg=name)
    assert float(found["probs"][-1].max()) == 0


@pytest.mark.parametrize("n", [2, 20, 40])
@pytest.mark.parametrize(("scale", "spread"), [(1, 1), (5, 0.3), (1, 1e-2)])
def test_two_classes_have_one_logit(n: int, scale: float, spread: float) -> None:
    logits = scores_of(n, scale, spread, n_classes=1)
    groups = PassGroups(n, stratified=True, rates=(0.2,))
    tile = TwoClassTile(groups, "logits", 0)
    for chunk in logits.split(n if groups.on_grid else 16):
        tile.update(chunk.clone())
    scores = torch.cat([torch.zeros_like(logits), logits], dim=1)
    whole = expected(scores, groups, "logits")
    for name, value in tile.result().items():
        digits = {"probs": 1e-6, "expected_entropy": 1e-6, "probs_std": 1e-4}
        torch.testing.assert_close(
            value.double(), whole[name], rtol=digits.get(name, 1e-3), atol=1e-7, equal_nan=True
        )


def test_a_logit_of_zero_is_a_vote_for_class_0() -> None:
    tile = TwoClassTile(PassGroups(3), "logits", 0)
    tile.update(torch.tensor([0.0, 2.0, -1.0]).view(3, 1, 1))
    assert tile.result()["variation_ratio"].tolist() == [pytest.approx(1 / 3)]
    # Without any preference, entropies are log 2 and have no spread.
    tile = TwoClassTile(PassGroups(3), "logits", 0)
    tile.update(torch.zeros(3, 1, 2))
    found = tile.result()
    assert found["variation_ratio"].tolist() == [0, 0]
    assert found["expected_entropy"].tolist() == pytest.approx([math.log(2)] * 2)
    assert found["probs"].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_two_certain_classes_keep_the_digits_of_the_other() -> None:
    odds = torch.tensor([1e-9, 3e-9] * 10, dtype=torch.float64)
    tile = TwoClassTile(PassGroups(20), "logits", 0)
    tile.update(-odds.log().view(20, 1, 1).float())
    found = tile.result()
    np.testing.assert_allclose(found["probs_std"][:, 0], odds.std().repeat(2), rtol=1e-5)
    np.testing.assert_allclose(found["probs"][0, 0], 2e-9, rtol=1e-6)


def test_places_are_those_of_the_whole() -> None:
    groups = PassGroups(None, stratified=True)
    whole, places = tile_of(scores_of(64, 2, 1), groups), torch.tensor([7, 3, 59])
    two_class = TwoClassTile(groups, "logits", 0)
    for chunk in scores_of(64, 2, 1, n_classes=1).split(16):
        two_class.update(chunk)
    for tile in (whole, two_class):
        part = tile.part(places).result()
        for name, value in tile.result().items():
            torch.testing.assert_close(part[name], value[..., places])


def test_entropies_of_passes_that_are_alike_have_no_information() -> None:
    scores = scores_of(20, 2, 0)
    found = tile_of(scores, PassGroups(20, stratified=True)).result()
    probs = scores[0].double().softmax(dim=0)
    np.testing.assert_allclose(found["probs"], probs, rtol=1e-6)
    entropy = -(probs * probs.log()).sum(dim=0)
    np.testing.assert_allclose(found["expected_entropy"], entropy, rtol=1e-6)
    assert float(found["probs_std"].max()) < 1e-7
    assert float(found["mutual_information_mcse"].max()) < 1e-7
    assert math.isclose(float(found["variation_ratio"].abs().max()), 0)
