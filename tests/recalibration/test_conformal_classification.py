"""Conformal prediction sets: scores by hand, the finite-sample guarantee by simulation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import mcdrop
from mcdrop.recalibration import (
    ConformalClassificationPrediction,
    ConformalClassifier,
    IsotonicRecalibration,
    TemperatureScaling,
)
from mcdrop.recalibration._row_uniforms import row_uniforms
from tests.recalibration.cases import averaged, drawn_labels, from_passes, normal, softmax

Method = Literal["lac", "aps", "raps"]
METHODS: tuple[Method, ...] = ("lac", "aps", "raps")
NEW = 50


def bad_forecast(
    rng: np.random.Generator, n: int
) -> tuple[mcdrop.ClassificationPrediction, np.ndarray]:
    """Overconfident probabilities with two classes swapped now and then."""
    truth = rng.dirichlet(np.ones(4), n)
    return averaged(softmax(np.log(truth[:, [1, 0, 2, 3]] + truth) * 3)), drawn_labels(truth, rng)


def assert_coverage(inside: np.ndarray, n: int, level: float) -> None:
    """Compare covered counts with Beta-Binomial(m, k, n + 1 - k), k = ceil((n + 1) level)."""
    k = int(np.ceil(round((n + 1) * level, 9)))
    law = stats.betabinom(NEW, k, n + 1 - k)
    error = law.std() / np.sqrt(len(inside))
    assert abs(inside.mean() - law.mean()) < 4 * error
    assert level - 4 * error / NEW <= inside.mean() / NEW <= level + 1 / (n + 1) + 4 * error / NEW


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (30, 0.8)])
def test_coverage_has_its_exact_law(method: Method, n: int, level: float) -> None:
    rng = np.random.default_rng(0)
    inside = np.zeros(600)
    for i in range(len(inside)):
        p, y = bad_forecast(rng, n + NEW)
        conformal = ConformalClassifier(method, level, penalty=0.1, seed=i).fit(p[:n], y[:n])
        sets = conformal(p[n:]).prediction_sets(level)
        inside[i] = sets[np.arange(NEW), y[n:]].sum().item()
    assert_coverage(inside, n, level)


@pytest.mark.parametrize("method", METHODS)
def test_coverage_holds_in_each_group_and_at_other_levels(method: Method) -> None:
    rng = np.random.default_rng(1)
    group = np.array([0] * 14 + [1] * 29 + [0] * NEW + [1] * NEW)
    inside = np.zeros((2, 500))
    for i in range(500):
        p, y = bad_forecast(rng, len(group))
        y = np.where(group == 1, (y + 1) % 4, y)
        conformal = ConformalClassifier(method, 0.9, seed=i)
        fit = conformal.fit(p[:43], y[:43], groups=group[:43])
        sets = fit(p[43:], groups=group[43:]).prediction_sets(0.75)
        hit = sets[np.arange(2 * NEW), y[43:]]
        inside[:, i] = hit[:NEW].sum().item(), hit[NEW:].sum().item()
    assert_coverage(inside[0], 14, 0.75)
    assert_coverage(inside[1], 29, 0.75)


def test_without_randomization_sets_cover_more() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(300):
        p, y = bad_forecast(rng, 19 + NEW)
        sets = ConformalClassifier("aps", 0.7, seed=None).fit(p[:19], y[:19])(p[19:])
        shares.append(sets.prediction_sets(0.7)[np.arange(NEW), y[19:]].double().mean().item())
    law = stats.betabinom(NEW, 14, 6)
    assert np.mean(shares) > law.mean() / NEW - 4 * law.std() / NEW / np.sqrt(300)


def test_lac_by_hand() -> None:
    # Scores of the labels: 0.1, 0.6, 0.2, 0.5. Rank ceil(5 * 0.6) = 3 is 0.5: classes of
    # probability 0.5 and more. At level 0.2 rank 1 is 0.1, and the second row gets no class.
    p = averaged([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.5, 0.5]])
    c = ConformalClassifier("lac", 0.6).fit(p, [0, 1, 0, 0])(p)
    assert c.prediction_sets(0.6).tolist() == [[True, False]] * 3 + [[True, True]]
    assert c.prediction_sets(0.2).tolist() == [[True, False]] + [[False, False]] * 3
    assert c.set_size.tolist() == [1, 1, 1, 2]


def test_aps_and_raps_by_hand() -> None:
    # Ordered 0.5, 0.3, 0.2 the running sums are 0.5, 0.8, 1; "raps" adds 0.1 to rank 2, 0.2 to 3.
    p = averaged([[0.3, 0.5, 0.2]] * 3)
    aps = ConformalClassifier("aps", 0.5, seed=None).fit(p, [1, 0, 2])(p)
    raps = ConformalClassifier("raps", 0.5, penalty=0.1, seed=None).fit(p, [1, 0, 2])(p)
    np.testing.assert_allclose(aps.class_scores[0], [0.8, 0.5, 1.0])
    np.testing.assert_allclose(raps.class_scores[0], [0.9, 0.5, 1.2])
    # Rank ceil(4 / 2) = 2: up to the score of class 0.
    assert aps.prediction_sets(0.5)[0].tolist() == [True, True, False]


def test_equally_probable_classes_are_ranked_in_their_order() -> None:
    # Of 40 classes of 1/40 each, class c has c others before it.
    p = averaged(np.full((3, 40), 1 / 40))
    c = ConformalClassifier("aps", 0.5, seed=None).fit(p, [0, 1, 2])(p)
    np.testing.assert_allclose(c.class_scores, np.tile(np.arange(1, 41) / 40, (3, 1)))


def test_classes_of_a_row_share_its_uniform_number() -> None:
    rng = np.random.default_rng(10)
    p = averaged(rng.dirichlet(np.ones(3), 50))
    c = ConformalClassifier("aps", 0.5, seed=4).fit(p, [0] * 50)(p)
    ordered, classes = p.probs.sort(dim=1, descending=True)
    above = ordered.cumsum(dim=1) - ordered
    u = (c.class_scores.gather(1, classes) - above) / ordered
    torch.testing.assert_close(u, row_uniforms(p.probs, 4).expand(50, 3))
    # The scores of the calibration come from the same function.
    np.testing.assert_allclose(c.scores[0][0], c.class_scores[:, 0].sort().values)


@pytest.mark.parametrize("method", METHODS)
def test_sets_do_not_depend_on_how_rows_are_batched(method: Method) -> None:
    p, y = bad_forecast(np.random.default_rng(11), 120)
    conformal = ConformalClassifier(method, 0.8).fit(p[:60], y[:60])
    whole = conformal(p[60:]).prediction_sets(0.8)
    for size in (1, 7):
        batches = [conformal(p[start : start + size]) for start in range(60, 120, size)]
        sets = torch.cat([batch.prediction_sets(0.8) for batch in batches])
        assert torch.equal(sets, whole)
    parts = [p[:60][[row]] for row in range(59, -1, -1)]
    assert torch.equal(conformal(parts[0]).class_scores, conformal(p[59]).class_scores)


def test_identical_rows_cover_at_least_the_level() -> None:
    # Every row says (0.6, 0.4) and is right: one U, two scores, so the smaller set covers 0.6.
    rng = np.random.default_rng(12)
    p = averaged([[0.6, 0.4]] * 40)
    inside = []
    for seed in range(400):
        y = (rng.uniform(size=40) > 0.6).astype(int)
        sets = ConformalClassifier("aps", 0.5, seed=seed).fit(p[:20], y[:20])(p[20:])
        inside.append(sets.prediction_sets(0.5)[np.arange(20), y[20:]].double().mean().item())
    assert np.mean(inside) >= 0.5 - 3 * np.std(inside) / 20


def test_seed_decides_the_random_part_alone() -> None:
    p, y = bad_forecast(np.random.default_rng(3), 40)
    torch.manual_seed(0)
    np.random.seed(0)
    before, legacy = torch.get_rng_state(), np.random.rand(3)
    np.random.seed(0)
    scores = [ConformalClassifier("aps", seed=s).fit(p, y)(p).class_scores for s in (1, 1, 2)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.rand(3), legacy)


@given(st.integers(0, 10**6), st.sampled_from(METHODS))
def test_sets_grow_with_the_level(seed: int, method: Method) -> None:
    p, y = bad_forecast(np.random.default_rng(seed), 30)
    c = ConformalClassifier(method, 0.8).fit(p, y)(p)
    for small, large in pairwise(c.prediction_sets(level) for level in (0.3, 0.6, 0.8, 0.95)):
        assert bool((small <= large).all())


@given(st.integers(0, 10**6))
def test_lac_of_two_classes_ignores_increasing_maps(seed: int) -> None:
    # With two classes temperature maps every probability by the same increasing function.
    rng = np.random.default_rng(seed)
    p = averaged(rng.dirichlet([1, 1], 30))
    y = drawn_labels(softmax(np.log(p.probs.numpy()) * 0.5), rng)
    softer = TemperatureScaling().fit(averaged([[0.9, 0.1]] * 4), [0, 0, 0, 1])(p)
    sets = [ConformalClassifier("lac", 0.8).fit(q, y)(q).prediction_sets(0.8) for q in (p, softer)]
    assert torch.equal(sets[0], sets[1])


def test_ties_are_kept_together() -> None:
    p = averaged([[0.25] * 4] * 9)
    c = ConformalClassifier("lac").fit(p, [0, 1, 2, 3, 0, 1, 2, 3, 0])(p)
    assert bool(c.prediction_sets().all())


def test_a_penalty_of_nothing_is_aps() -> None:
    p, y = bad_forecast(np.random.default_rng(4), 30)
    aps = ConformalClassifier("aps").fit(p, y)(p)
    assert torch.equal(
        ConformalClassifier("raps", penalty=0).fit(p, y)(p).class_scores, aps.class_scores
    )
    many = ConformalClassifier("raps", penalty=1, n_free=4).fit(p, y)(p)
    assert torch.equal(many.class_scores, aps.class_scores)


def test_the_rest_of_the_prediction_is_the_models() -> None:
    p = from_passes(softmax(np.random.default_rng(5).normal(size=(5, 20, 3))))
    c = ConformalClassifier().fit(p, drawn_labels(p.probs.numpy(), np.random.default_rng(6)))(p)
    assert isinstance(c, mcdrop.ClassificationPrediction)
    for name, value in p.to_numpy().items():
        np.testing.assert_array_equal(c.to_numpy()[name], value)


def test_sets_follow_a_recalibration() -> None:
    rng = np.random.default_rng(7)
    (p, y), (q, z), (r, _) = (bad_forecast(rng, 200) for _ in range(3))
    isotonic = IsotonicRecalibration().fit(p, y)
    c = ConformalClassifier("aps").fit(isotonic(q), z)(isotonic(r))
    assert torch.equal(c.probs, isotonic(r).probs)
    with pytest.raises(mcdrop.UnsupportedError, match="Let this correction come first"):
        isotonic(c)


def test_rows_tables_and_files(tmp_path: Path) -> None:
    p, y = bad_forecast(np.random.default_rng(8), 40)
    group = ["even", "odd"] * 20
    c = ConformalClassifier("raps", 0.8).fit(p, y, groups=group)(p, groups=group)
    assert torch.equal(c[[3, 8]].prediction_sets(0.8), c.prediction_sets(0.8)[[3, 8]])
    c.save(tmp_path / "c.pt")
    back = ConformalClassificationPrediction.load(tmp_path / "c.pt")
    assert torch.equal(back.prediction_sets(0.55), c.prediction_sets(0.55))
    np.testing.assert_array_equal(c.to_pandas()["set_size"], c.set_size)
    assert "raps, 40 calibration rows, groups: even, odd" in repr(c)


def test_one_row_is_enough_for_half() -> None:
    p = averaged([[0.7, 0.3]])
    assert ConformalClassifier(level=0.5).fit(p, [0])(p).prediction_sets(0.5).tolist() == [
        [True, False]
    ]


def test_errors_say_what_to_do() -> None:
    p, y = bad_forecast(np.random.default_rng(9), 20)
    with pytest.raises(mcdrop.RangeError, match='`method` to be one of "lac", "aps", "raps"'):
        ConformalClassifier("thr")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.RangeError, match="`penalty` to be a finite number of at least 0"):
        ConformalClassifier("raps", penalty=-1)
    with pytest.raises(mcdrop.RangeError, match="`n_free` to be an integer of at least 0"):
        ConformalClassifier("raps", n_free=-1)
    with pytest.raises(mcdrop.RangeError, match="`seed` to be an integer of at least 0"):
        ConformalClassifier("aps", seed=-1)
    with pytest.raises(mcdrop.UnsupportedError, match="ConformalClassifier: expected `self`"):
        ConformalClassifier()(p)
    with pytest.raises(mcdrop.UnsupportedError, match="be a ClassificationPrediction, but got Reg"):
        ConformalClassifier().fit(normal([0.0], 1), [0])  # type: ignore[arg-type]
    with pytest.raises(mcdrop.ShapeError, match=r"shape \(20,\) to match"):
        ConformalClassifier().fit(p, y[1:])
    with pytest.raises(mcdrop.RangeError, match="at least 99 calibration rows .* but got 20"):
        ConformalClassifier(level=0.99).fit(p, y)
    with pytest.raises(mcdrop.RangeError, match="at least 9 .* but got 1 in group 'b'"):
        ConformalClassifier().fit(p, y, groups=["a"] * 19 + ["b"])
    fitted = ConformalClassifier().fit(p, y)
    with pytest.raises(mcdrop.ShapeError, match="have 4 classes, as in the fit, but got 2"):
        fitted(averaged([[0.5, 0.5]]))
    with pytest.raises(mcdrop.RangeError, match="prediction_sets: expected `prediction` to have"):
        fitted(p).prediction_sets(0.99)
    with pytest.raises(mcdrop.NonFiniteError, match="ConformalClassifier: expected `prediction`"):
        fitted(averaged([[np.nan] * 4]))
    pixels = mcdrop.ClassificationPrediction(
        probs=torch.full((2, 2, 3), 0.5),
        probs_std=torch.zeros(2, 2, 3),
        expected_entropy=torch.zeros(2, 3),
        variation_ratio=torch.zeros(2, 3),
        mcse=torch.zeros(2, 2, 3),
        n_samples=0,
    )
    with pytest.raises(mcdrop.ShapeError, match=r"because rows are the exchangeable units"):
        ConformalClassifier().fit(pixels, torch.zeros(2, 3))
