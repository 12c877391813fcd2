"""What an output says about y: probabilities and variances by hand, contradictions refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mcdrop._tasks.likelihoods import (
    OutputType,
    check_classes,
    class_distributions,
    class_probabilities,
    class_scores,
    mean_and_variance,
    score_distributions,
    score_probabilities,
)
from mcdrop.errors import OutputError, ShapeError
from mcdrop.prediction.classification import entropy

LOG_2 = math.log(2.0)
# One pass, two rows, three classes. Odds 1 : 2 : 1 and 1 : 1 : 6.
LOGITS = torch.tensor([[[0.0, LOG_2, 0.0], [3.0, 3.0, 3.0 + math.log(6.0)]]])
PROBS = torch.tensor([[[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]])


def many(values: Tensor, output_type: OutputType) -> Tensor:
    return class_probabilities("predict", values, output_type, binary=False)


def two(values: Tensor, output_type: OutputType, *, multilabel: bool = False) -> Tensor:
    return class_probabilities("predict", values, output_type, binary=True, multilabel=multilabel)


@pytest.mark.parametrize(
    ("values", "output_type"),
    [(LOGITS, "logits"), (PROBS, "probs"), (PROBS.log(), "log_probs")],
)
def test_three_kinds_of_scores_say_the_same(values: Tensor, output_type: OutputType) -> None:
    torch.testing.assert_close(many(values, output_type), PROBS)
    # Classes come along dimension 2, whatever follows.
    pixels = values.unsqueeze(-1).expand(1, 2, 3, 4)
    torch.testing.assert_close(many(pixels, output_type), PROBS.unsqueeze(-1).expand(1, 2, 3, 4))


def test_logits_may_be_shifted_by_row_and_as_large_as_they_like() -> None:
    shift = torch.tensor([[[1000.0], [-1000.0]]])
    torch.testing.assert_close(many(LOGITS + shift, "logits"), PROBS, rtol=1e-3, atol=1e-4)
    assert many(torch.tensor([[[1e4, -1e4]]]), "logits").tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    ("values", "output_type"),
    [
        (torch.tensor([[0.0, math.log(3.0)]]), "logits"),
        (torch.tensor([[0.5, 0.75]]), "probs"),
        (torch.tensor([[math.log(0.5), math.log(0.75)]]), "log_probs"),
    ],
)
@pytest.mark.parametrize("as_column", [True, False])
def test_binary_scores_stand_for_class_one(
    values: Tensor, output_type: OutputType, as_column: bool
) -> None:
    found = two(values.unsqueeze(-1) if as_column else values, output_type)
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]))


def test_small_probabilities_of_either_class_keep_their_digits() -> None:
    found = two(torch.tensor([[-80.0, 80.0]]), "logits")
    # exp(-80), to which 1 - sigmoid(80) would round as 0.
    torch.testing.assert_close(found[0, 0, 1], torch.tensor(math.exp(-80)), rtol=1e-5, atol=0)
    torch.testing.assert_close(found[0, 1, 0], torch.tensor(math.exp(-80)), rtol=1e-5, atol=0)


def test_labels_are_binary_each_with_classes_before_them() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0), -math.log(3.0)]]])
    found = two(logits, "logits", multilabel=True)
    expected = torch.tensor([[[[0.5, 0.25, 0.75], [0.5, 0.75, 0.25]]]])
    torch.testing.assert_close(found, expected)
    assert two(torch.full((1, 2, 3, 4), 0.5), "probs", multilabel=True).shape == (1, 2, 2, 3, 4)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1)])
def test_one_score_per_row_is_no_distribution_over_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"C >= 2 for task='classification', but got shape .*4"):
        many(torch.zeros(shape), "logits")
    with pytest.raises(ShapeError, match="C >= 2"):
        check_classes("predict", torch.zeros(shape), "logits", binary=False)


@pytest.mark.parametrize(
    ("shape", "multilabel", "text"),
    [
        ((5, 4, 3), False, r"one score per row, .* for task='binary'.*\(4, 3\)"),
        ((5, 4), True, r"several scores per row, \(N, L\) for task='multilabel'.*\(4,\)"),
    ],
)
def test_binary_and_multilabel_are_told_apart_by_shape(
    shape: tuple[int, ...], multilabel: bool, text: str
) -> None:
    with pytest.raises(ShapeError, match=text):
        two(torch.zeros(shape), "logits", multilabel=multilabel)
    with pytest.raises(ShapeError, match=text):
        check_classes("predict", torch.zeros(shape), "logits", binary=True, multilabel=multilabel)


@pytest.mark.parametrize(
    ("values", "output_type", "text"),
    [
        (PROBS, "logits", r"rows sum to 1\. Pass output_type='probs'"),
        (LOGITS, "probs", r"rows that sum to 0\.6931 .* Pass output_type='logits'"),
        (LOGITS, "log_probs", r"be log_probs, but got rows that sum to 4"),
        (PROBS, "log_probs", r"be log_probs"),
        (PROBS * 1.01, "probs", r"rows that sum to 1\.01"),
        (torch.tensor([[[1.5, -0.5]]]), "probs", r"be probs, but got rows that sum to 1"),
    ],
)
def test_scores_that_contradict_what_they_are_said_to_be(
    values: Tensor, output_type: OutputType, text: str
) -> None:
    with pytest.raises(OutputError, match="predict: expected `output_type` to say what .*" + text):
        many(values, output_type)
    with pytest.raises(OutputError, match=text):
        check_classes("predict", values, output_type, binary=False)


@pytest.mark.parametrize(
    ("values", "output_type"),
    [(torch.tensor([[0.5, 1.5]]), "probs"), (torch.tensor([[-1.0, 0.1]]), "log_probs")],
)
def test_scores_of_class_one_beyond_the_unit_interval(
    values: Tensor, output_type: OutputType
) -> None:
    with pytest.raises(OutputError, match=r"but got values from .* Pass output_type='logits'"):
        two(values, output_type)


def test_logits_may_look_like_probabilities_here_and_there() -> None:
    # Passes of which the first, or another, sums to one.
    for values in (torch.cat([PROBS, LOGITS]), torch.cat([LOGITS, PROBS])):
        check_classes("predict", values, "logits", binary=False)
        many(values, "logits")
    check_classes("predict", PROBS.half(), "probs", binary=False)


def test_half_precision_may_miss_one_by_its_rounding() -> None:
    half = PROBS.to(torch.bfloat16)
    assert torch.equal(many(half, "probs"), half)


def test_pairs_are_means_and_variances() -> None:
    pairs = torch.tensor([[[1.0, 0.0], [2.0, math.log(4.0)]]])
    for values, kind in ((pairs, "log_variance"), (pairs.clone(), "variance")):
        if kind == "variance":
            values[..., 1] = torch.tensor([1.0, 4.0])
        mean, variance = mean_and_variance("predict", values, kind)  # type: ignore[arg-type]
        torch.testing.assert_close(mean, torch.tensor([[1.0, 2.0]]))
        torch.testing.assert_close(variance, torch.tensor([[1.0, 4.0]]))


@pytest.mark.parametrize("spread", [0.0, -2.0])
def test_a_variance_is_positive(spread: float) -> None:
    values: Any = torch.tensor([[[1.0, spread], [1.0, 3.0]]])
    with pytest.raises(OutputError, match=r"values down to .* Pass output_type='log_variance'"):
        mean_and_variance("predict", values, "variance")
    mean_and_variance("predict", values, "log_variance")


@pytest.mark.parametrize("output_type", ["logits", "probs", "log_probs"])
@pytest.mark.parametrize("task", ["classification", "binary", "multilabel"])
def test_scores_have_the_probabilities_of_the_outputs(task: str, output_type: OutputType) -> None:
    logits = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    logits = logits[..., :1] if task == "binary" else logits
    binary, multilabel = task != "classification", task == "multilabel"
    probs = logits.sigmoid() if binary else logits.softmax(dim=2)
    values = {"logits": logits, "probs": probs, "log_probs": probs.log()}[output_type]
    scores = class_scores(values, output_type, binary=binary)
    assert scores.shape == values.shape
    kinds = {"binary": binary, "multilabel": multilabel}
    expected = class_probabilities("f", values, output_type, **kinds)
    torch.testing.assert_close(score_probabilities(scores, **kinds), expected)


@pytest.mark.parametrize("task", ["classification", "binary", "multilabel"])
def test_scores_have_the_entropies_of_their_probabilities(task: str) -> None:
    scores = 3 * torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    scores = scores[..., 0] if task == "binary" else scores
    kind = {"binary": task != "classification", "multilabel": task == "multilabel"}
    probs, entropies = score_distributions(scores, **kind)
    torch.testing.assert_close(probs, score_probabilities(scores, **kind))
    torch.testing.assert_close(entropies, entropy(probs, dim=2), rtol=1e-4, atol=1e-6)


def test_scores_of_certain_outputs_are_finite() -> None:
    certain = torch.tensor([[[1.0, 0.0]]])
    assert bool(class_scores(certain, "probs", binary=False).isfinite().all())
    assert bool(class_scores(certain, "probs", binary=True).isfinite().all())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 64), (3, 4, 65), (2, 3, 5, 4, 4)])
def test_logits_become_their_softmax(shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    found = class_probabilities("f", scores, "logits", binary=False)
    torch.testing.assert_close(found, scores.softmax(dim=2), rtol=1e-9, atol=0)
    torch.testing.assert_close(score_probabilities(scores, binary=False), found)
    probs, entropies = class_distributions("f", scores, "logits", binary=False)
    torch.testing.assert_close(probs, found)
    expected = torch.special.entr(found).sum(dim=2)
    torch.testing.assert_close(entropies, expected, rtol=1e-9, atol=1e-12)
    assert float(entropies.min()) >= 0
