"""Accumulators: predictions from chunks of passes, against the enumeration of all masks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.groups import PassGroups
from mcdrop._masks.source import effective_rate
from mcdrop._tasks.accumulate import (
    ClassificationAccumulator,
    SampleAccumulator,
    joined_samples,
)
from mcdrop._tasks.regression import RegressionAccumulator
from mcdrop._tasks.tiles import joined
from mcdrop.errors import NonFiniteError, ShapeError
from mcdrop.prediction.classification import ClassificationPrediction
from mcdrop.prediction.regression import RegressionPrediction
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


def test_bias_of_the_mutual_information_of_few_passes_to_third_order() -> None:
    # One row and two classes; passes 0, 1, 2 are the first row of the grid, so independent.
    class_1 = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    probs = torch.stack([1 - class_1, class_1], dim=1).unsqueeze(1)
    groups = PassGroups(3, stratified=True)
    accumulator = ClassificationAccumulator("f", 0, False, groups, output_type="probs")
    accumulator.update(probs)
    bias = accumulator.result().mutual_information_bias
    # -p log p around m, with p^2 and p^3 estimated by the mean of the pairs and by the triple:
    # h(m) + h'(m) (p - m) - (p^2 - 2 m p + m^2) / (2 m)
    #      + (p^3 - 3 m p^2 + 3 m^2 p - m^3) / (6 m^2), with p -> m, and h(m) is the plug-in.
    expected = 0.0
    for a, b, c in ((0.1, 0.4, 0.7), (0.9, 0.6, 0.3)):
        m, square, cube = (a + b + c) / 3, (a * b + a * c + b * c) / 3, a * b * c
        expected += (square - m**2) / (2 * m) - (cube - 3 * m * square + 2 * m**3) / (6 * m**2)
    assert bias is not None
    assert bias.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"multilabel": True}, {"redrawn": True}])
@pytest.mark.parametrize("n_samples", [20, 40, 100])
@pytest.mark.parametrize("stratified", [True, False])
def test_large_outputs_have_as_many_groups_for_their_entropies(
    options: dict[str, Any], n_samples: int, stratified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A quarter of these classes would be kept in 16 groups, all of them in 8.
    monkeypatch.setattr("mcdrop._engine.moments._LARGE", 20)
    passes = torch.rand(n_samples, 10, 4, 5, generator=torch.Generator().manual_seed(0))
    accumulator = ClassificationAccumulator(
        "f", 0, False, PassGroups(n_samples, stratified=stratified), output_type="logits", **options
    )
    for chunk in passes.split(7):
        accumulator.update(chunk)
    p = accumulator.result()
    assert p.mutual_information_mcse is not None
    assert bool(p.mutual_information_mcse.isfinite().all())
    assert float(p.mutual_information_mcse.min()) > 0


def test_classes_that_never_occur_have_no_bias() -> None:
    probs = torch.tensor([0.3, 0.7, 0.0]).expand(16, 2, 3)
    groups = PassGroups(16, stratified=True)
    accumulator = ClassificationAccumulator("f", 0, False, groups, output_type="probs")
    accumulator.update(probs)
    bias = accumulator.result().mutual_information_bias
    assert bias is not None
    torch.testing.assert_close(bias, torch.zeros(2), atol=1e-7, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 32, 64, 100])
@pytest.mark.parametrize("p", [0.05, 0.1, 0.25, 0.3, 0.5])
def test_corrected_mutual_information_is_off_by_less_than_one_percent(
    p: float, n_samples: int
) -> None:
    net = TinyNet(3, 10, 3, p, seed=5).double()
    net.drop.p = effective_rate(p)
    x = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)
    exact = float(exact_classification(net, x)["mutual_information"][0])
    mc, found = mcdrop.wrap(net), []
    for seed in range(10):
        prediction = mc.predict_with_uncertainty(
            x.expand(10_000, -1), n_samples=n_samples, task="classification", seed=seed
        )
        found.append(prediction.mutual_information_corrected)
    each = torch.cat(found) / exact
    error = float(each.std()) / len(each) ** 0.5
    # Two standard errors for one comparison are three for the twenty made here. Terms of fourth
    # order, and of third from 32 passes on, leave up to 1 % where sd / mean of a class is 2 to 5.
    assert abs(float(each.mean()) - 1) < 3 * error + 0.01


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


def test_errors_are_at_least_those_of_the_jackknife() -> None:
    logits = torch.randn(100, 6, 4, generator=torch.Generator().manual_seed(0))
    accumulator = ClassificationAccumulator("f", 0, False, PassGroups(100), output_type="logits")
    accumulator.update(3 * logits.double())
    p = accumulator.result()
    probs = (3 * logits.double()).softmax(dim=2)
    textbook = probs.std(dim=0) / 10
    assert bool((p.mcse >= textbook).all())
    # The most that probability 3 / S at the extremes can add, in units of 1.96.
    extreme = torch.maximum(probs.amax(dim=0) - p.probs, p.probs - probs.amin(dim=0))
    assert bool((p.mcse >= 0.0299 * extreme / 1.96).all())


@pytest.mark.slow
@pytest.mark.parametrize("n_samples", [16, 32, 64, 100])
@pytest.mark.parametrize("p", [0.25, 0.5])
def test_corrected_mutual_information_is_unbiased(p: float, n_samples: int) -> None:
    net = TinyNet(3, 10, 3, p, seed=5).double()
    net.drop.p = effective_rate(p)
    exact = exact_classification(net, X[:1])["mutual_information"][0]
    mc, found, plain = mcdrop.wrap(net), [], []
    for seed in range(10):
        result = mc.predict_with_uncertainty(
            X[:1].expand(10_000, -1), n_samples=n_samples, task="classification", seed=seed
        )
        found.append(result.mutual_information_corrected)
        plain.append(result.mutual_information)
    values = torch.cat(found)
    error = float(values.std()) / len(values) ** 0.5
    bias = abs(float(values.mean()) - exact)
    # One stratum cannot show the variance of the mean; of the plug-in's bias, most is removed. From
    # two strata on, the second order of the delta method remains: 0.3 % at 32 passes, then less.
    # Two standard errors for one comparison are three for the six made here.
    remainder = 0.005 * (32 / n_samples) ** 2 * exact
    plug_in = abs(float(torch.cat(plain).mean()) - exact)
    assert bias < (0.65 * plug_in if n_samples == 16 else 3 * error + remainder)


def trained(net: nn.Module, x: Tensor, y: Tensor, *, classes: bool, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            out = net(x[rows])
            loss = F.cross_entropy(out, y[rows]) if classes else F.mse_loss(out, y[rows])
            loss.backward()
            optimizer.step()
    return net.eval()


def perceptron(n_in: int, n_out: int, p: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_in, 64), nn.ReLU(), nn.Dropout(p),
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, n_out),
    )  # fmt: skip


def shares_within(
    found: RegressionPrediction | ClassificationPrediction,
    many: RegressionPrediction | ClassificationPrediction,
    names: dict[str, str],
) -> dict[str, float]:
    """Share of values within 1.96 standard errors of those over very many passes."""
    repeats = len(found) // len(many)
    shares = {}
    for name, error in names.items():
        value, exact = getattr(found, name), getattr(many, name)
        distance = (value - exact.repeat(repeats, *[1] * (value.ndim - 1))).abs()
        shares[name] = float((distance <= 1.96 * getattr(found, error)).double().mean())
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [True, False])
def test_errors_of_a_trained_classifier_hold(stratified: bool) -> None:
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    torch.manual_seed(0)
    net = trained(
        perceptron(64, 10, 0.2), x[:1200], torch.tensor(digits.target[:1200]),
        classes=True, epochs=15,
    )  # fmt: skip
    rows = x[1200:1240]
    many = mcdrop.wrap(net).predict_with_uncertainty(
        rows, n_samples=50_000, seed=99, task="classification"
    )
    names = {
        "probs": "mcse",
        "probs_std": "probs_std_mcse",
        "predictive_entropy": "predictive_entropy_mcse",
        "mutual_information_corrected": "mutual_information_mcse",
    }
    mc = mcdrop.wrap(net, stratified=stratified)
    for n_samples in (16, 32, 64, 100, 256):
        found = mc.predict_with_uncertainty(
            rows.repeat(60, 1), n_samples=n_samples, seed=1, task="classification"
        )
        for name, share in shares_within(found, many, names).items():
            # 95 % nominal; rare passes can only be bounded, so the bounds may be wide.
            assert 0.92 < share <= 1, (n_samples, name, share)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.3])
@pytest.mark.parametrize("stratified", [True, False])
def test_errors_of_a_trained_regression_hold(stratified: bool, p: float) -> None:
    data = load_diabetes()
    x = torch.tensor(data.data / data.data.std(axis=0), dtype=torch.float32)
    y = torch.tensor(data.target, dtype=torch.float32).unsqueeze(1)
    torch.manual_seed(0)
    net = trained(perceptron(10, 1, p), x, (y - y.mean()) / y.std(), classes=False, epochs=40)
    many = mcdrop.wrap(net).predict_with_uncertainty(x[:40], n_samples=50_000, seed=99)
    mc = mcdrop.wrap(net, stratified=stratified)
    for n_samples in (16, 32, 64, 100, 256):
        found = mc.predict_with_uncertainty(x[:40].repeat(60, 1), n_samples=n_samples, seed=1)
        names = {"mean": "mcse", "std": "std_mcse"}
        for name, share in shares_within(found, many, names).items():
            assert 0.92 < share <= 1, (n_samples, name, share)
