"""Accumulators: predictions from chunks of passes, against the enumeration of all masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop._engine.moments import PassGroups
from mcdrop._tasks.accumulate import (
    ClassificationAccumulator,
    RegressionAccumulator,
    SampleAccumulator,
    joined,
    joined_samples,
)
from mcdrop.errors import NonFiniteError, ShapeError
from tests.oracles import TinyNet, exact_classification, exact_mean_and_variance

X = torch.tensor([[0.3, -1.0, 0.8], [1.0, 0.2, -0.5]], dtype=torch.float64)


def every_pass(net: TinyNet, x: Tensor) -> Tensor:
    """Outputs (2^hidden, N, D) for all masks; at p = 1/2 they are equally likely."""
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=net.first.out_features)))
    hidden = torch.relu(net.first(x)) * masks.double().unsqueeze(1) * 2
    out: Tensor = net.last(hidden)
    return out.detach()


def test_regression_over_all_masks_is_the_exact_answer() -> None:
    net = TinyNet(3, 6, 2, 0.5, seed=1).double()
    mean, variance = exact_mean_and_variance(net, X)
    passes = every_pass(net, X)
    accumulator = RegressionAccumulator("f", 0, True, PassGroups(64))
    for chunk in passes.split(10):
        accumulator.update(chunk)
    p = accumulator.result()
    np.testing.assert_allclose(p.mean, mean, rtol=1e-12)
    # The enumeration divides by 2^hidden, the estimate by one less.
    np.testing.assert_allclose(p.epistemic_variance, variance * 64 / 63, rtol=1e-12)
    assert p.samples is not None
    assert torch.equal(p.samples, passes)
    assert p.aleatoric_variance.count_nonzero() == 0


def test_classification_over_all_masks_is_the_exact_answer() -> None:
    net = TinyNet(3, 6, 3, 0.5, seed=2).double()
    exact = exact_classification(net, X)
    accumulator = ClassificationAccumulator("f", 0, False, PassGroups(64), output_type="logits")
    for chunk in every_pass(net, X).split(7):
        accumulator.update(chunk)
    p = accumulator.result()
    np.testing.assert_allclose(p.probs, exact["probs"], rtol=1e-12)
    np.testing.assert_allclose(p.probs_std, (exact["probs_variance"] * 64 / 63) ** 0.5, rtol=1e-12)
    for name in ("expected_entropy", "predictive_entropy", "mutual_information"):
        np.testing.assert_allclose(getattr(p, name), exact[name], rtol=1e-10)
    np.testing.assert_allclose(p.variation_ratio, 1 - exact["votes"].max(axis=1), rtol=1e-12)
    # Delta method for independent passes: -sum_c s_c^2 / (2 S p_c).
    bias = -(exact["probs_variance"] / 63 / (2 * exact["probs"])).sum(axis=1)
    assert p.mutual_information_bias is not None
    np.testing.assert_allclose(p.mutual_information_bias, bias, rtol=1e-12)


def test_predicted_noise_obeys_the_law_of_total_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(40, 5, 1, generator=generator, dtype=torch.float64)
    noise = torch.rand(40, 5, 1, generator=generator, dtype=torch.float64)
    accumulator = RegressionAccumulator("f", 0, True, PassGroups(40), spread="variance")
    accumulator.update(torch.stack([means, noise], dim=-1))
    p = accumulator.result()
    torch.testing.assert_close(p.variance, means.var(dim=0) + noise.mean(dim=0))
    assert p.sample_variances is not None
    torch.testing.assert_close(p.sample_variances, noise)


def test_an_integrated_last_dropout_adds_its_mean_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(40, 5, 1, generator=generator, dtype=torch.float64)
    last = torch.rand(40, 5, 1, generator=generator, dtype=torch.float64)
    accumulator = RegressionAccumulator("f", 0, False, PassGroups(40), exact_last=True)
    accumulator.update(torch.stack([means, last], dim=-1))
    p = accumulator.result()
    torch.testing.assert_close(p.epistemic_variance, means.var(dim=0) + last.mean(dim=0))


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_rows_of_an_accumulator_are_rows_of_its_prediction(kind: str) -> None:
    passes = torch.randn(32, 5, 3, generator=torch.Generator().manual_seed(1))
    groups = PassGroups(32, stratified=True)
    accumulator = (
        RegressionAccumulator("f", 0, True, groups)
        if kind == "regression"
        else ClassificationAccumulator("f", 0, True, groups, output_type="logits")
    )
    accumulator.update(passes)
    rows = torch.tensor([3, 0])
    part, whole = accumulator.rows(rows).result(), accumulator.result()[rows]
    for name, value in part.to_numpy().items():
        np.testing.assert_allclose(value, whole.to_numpy()[name], rtol=1e-6, err_msg=name)


def test_parts_are_joined_in_order() -> None:
    passes = torch.randn(20, 6, 2, generator=torch.Generator().manual_seed(2))
    parts = []
    for rows in (slice(0, 4), slice(4, 6)):
        accumulator = RegressionAccumulator("f", 0, True, PassGroups(20))
        accumulator.update(passes[:, rows])
        parts.append(accumulator.result())
    whole = joined(parts)
    assert whole.samples is not None
    assert torch.equal(whole.samples, passes)
    torch.testing.assert_close(whole.mean, passes.mean(dim=0))
    assert joined(parts[:1]) is parts[0]
    assert torch.equal(joined_samples([passes[:, :4], passes[:, 4:]]), passes)


def test_samples_are_kept_in_order() -> None:
    passes = torch.randn(20, 6, 2, generator=torch.Generator().manual_seed(3))
    accumulator = SampleAccumulator("f", 0)
    for chunk in passes.split(7):
        accumulator.update(chunk)
    assert torch.equal(accumulator.result(), passes)
    assert torch.equal(accumulator.rows(torch.tensor([5, 2])).result(), passes[:, [5, 2]])


def test_rows_with_nan_are_named_by_their_number_among_all_inputs() -> None:
    passes = torch.zeros(4, 3, 2)
    passes[1, 2, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="12"):
        SampleAccumulator("f", 10).update(passes)
    classes = ClassificationAccumulator("f", 10, False, PassGroups(4), output_type="logits")
    with pytest.raises(NonFiniteError, match="12"):
        classes.update(passes)
    regression = RegressionAccumulator("f", 10, False, PassGroups(4))
    regression.update(passes)
    with pytest.raises(NonFiniteError, match="12"):
        regression.result()


def test_noise_by_row_is_refused() -> None:
    accumulator = RegressionAccumulator("f", 0, False, PassGroups(4), noise_std=torch.ones(3))
    accumulator.update(torch.zeros(4, 3, 2))
    with pytest.raises(ShapeError, match=r"expected `noise_std` to be a number or one per output"):
        accumulator.result()


def test_a_classification_without_passes_is_an_error() -> None:
    accumulator = ClassificationAccumulator("f", 0, False, PassGroups(4), output_type="logits")
    with pytest.raises(RuntimeError, match="no passes have been added"):
        accumulator.result()
