"""The summary of an exported program is that of a prediction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.special import entr

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.moments import Moments
from mcdrop._export.summary import ClassSummary, RegressionSummary, variance_form


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("n_samples", [2, 5, 16, 20, 32, 50, 64, 100])
def test_the_variance_is_a_quadratic_form(n_samples: int, stratified: bool) -> None:
    form = variance_form(n_samples, stratified=stratified, rates=(0.1, 0.3))
    passes = torch.randn(n_samples, 7, dtype=torch.float64) + 3
    moments = Moments(PassGroups(n_samples, stratified=stratified, rates=(0.1, 0.3)))
    moments.update(passes)
    found = torch.einsum("sn,st,tn->n", passes, form, passes)
    torch.testing.assert_close(found.clamp_min(0), moments.variance)
    torch.testing.assert_close(form.sum(dim=0), torch.zeros(n_samples, dtype=torch.float64))


def test_independent_passes_have_the_usual_variance() -> None:
    passes = torch.randn(8, 5, 2)
    found = RegressionSummary(8, stratified=False)(passes)
    torch.testing.assert_close(found["mean"], passes.mean(dim=0))
    torch.testing.assert_close(found["epistemic_std"], passes.std(dim=0))
    torch.testing.assert_close(found["std"], found["epistemic_std"])


def test_noise_adds_to_the_variance() -> None:
    passes = torch.randn(8, 5)
    known = RegressionSummary(8, stratified=False, noise_std=torch.tensor(2.0))(passes)
    torch.testing.assert_close(known["std"], (passes.var(dim=0) + 4).sqrt())
    pairs = torch.stack([passes, passes.sin()], dim=-1)
    learned = RegressionSummary(8, stratified=False, spread="log_variance")(pairs)
    total = passes.var(dim=0) + passes.sin().exp().mean(dim=0)
    torch.testing.assert_close(learned["std"], total.sqrt())


@pytest.mark.parametrize(
    ("options", "scores", "probs"),
    [
        ({"output_type": "logits"}, torch.randn(8, 5, 3), lambda x: x.softmax(dim=2)),
        ({"output_type": "probs"}, torch.rand(8, 5, 3).softmax(dim=2), lambda x: x),
        ({"output_type": "log_probs"}, torch.rand(8, 5, 3).log_softmax(dim=2), torch.exp),
        (
            {"output_type": "logits", "binary": True},
            torch.randn(8, 5, 1),
            lambda x: torch.cat([1 - x.sigmoid(), x.sigmoid()], dim=2),
        ),
        (
            {"output_type": "probs", "binary": True, "multilabel": True},
            torch.rand(8, 5, 4),
            lambda x: torch.stack([1 - x, x], dim=2),
        ),
    ],
)
def test_classes_of_every_kind(options: dict[str, Any], scores: torch.Tensor, probs: Any) -> None:
    options = {"binary": False, "multilabel": False, **options}
    found = ClassSummary(8, stratified=False, **options)(scores)
    expected = probs(scores)
    mean = expected.mean(dim=0)
    torch.testing.assert_close(found["probs"], mean)
    torch.testing.assert_close(found["probs_std"], expected.std(dim=0))
    torch.testing.assert_close(found["predictive_entropy"], entr(mean).sum(dim=1))
    between = entr(mean).sum(dim=1) - entr(expected).sum(dim=2).mean(dim=0)
    torch.testing.assert_close(found["mutual_information"], between, atol=1e-6, rtol=1e-4)
