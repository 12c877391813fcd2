"""The classifier's probabilities: mixtures over passes, labels of any type, draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.estimators import MCDropoutClassifier

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 2))
LABELS = np.array(["c", "a", "b"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]


@pytest.fixture(scope="module")
def fitted() -> MCDropoutClassifier:
    return MCDropoutClassifier((32,), n_members=3, max_epochs=40, random_state=0).fit(X, LABELS)


def test_labels_come_back_as_they_went_in(fitted: MCDropoutClassifier) -> None:
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.score(X, LABELS) > 0.85
    probs = fitted.predict_proba(X)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (fitted.predict(X) == fitted.classes_[probs.argmax(axis=1)]).all()


def test_probabilities_are_means_over_members_and_passes(fitted: MCDropoutClassifier) -> None:
    prediction = fitted.predict_with_uncertainty(X[:5])
    assert prediction.samples is not None
    torch.testing.assert_close(prediction.probs, prediction.samples.mean(dim=0))
    x = torch.from_numpy(X[:5])
    passes = fitted.sampler_.sample(x, 34, seed=fitted.seed_)  # 100 passes for 3 members
    torch.testing.assert_close(passes.softmax(dim=-1).mean(dim=(0, 2)), prediction.probs)
    total = prediction.expected_entropy + prediction.mutual_information
    torch.testing.assert_close(prediction.predictive_entropy, total)


def test_draws_are_functions_whose_mean_is_the_prediction(fitted: MCDropoutClassifier) -> None:
    draws = fitted.sample_proba(X[:5], n_samples=20, random_state=0)
    assert draws.shape == (20, 5, 3)
    np.testing.assert_allclose(draws.sum(axis=2), 1)
    prediction = fitted.predict_with_uncertainty(X[:5])
    # Every pass once is the prediction itself.
    every = fitted.sample_proba(X[:5], n_samples=prediction.n_samples, random_state=0)
    np.testing.assert_allclose(every.mean(axis=0), prediction.probs)
    assert fitted.sample_proba(X[:2], n_samples=1000).shape == (1000, 2, 3)


def test_a_draw_does_not_depend_on_which_rows_are_asked_for(fitted: MCDropoutClassifier) -> None:
    together = fitted.sample_proba(X[:5], 7, random_state=1)
    alone = fitted.sample_proba(X[3:4], 7, random_state=1)
    np.testing.assert_allclose(alone[:, 0], together[:, 3], atol=1e-12)


def test_one_class_is_certain() -> None:
    model = MCDropoutClassifier((4,), n_members=2, max_epochs=1, random_state=0).fit(X, [7] * 150)
    assert model.predict(X[:3]).tolist() == [7, 7, 7]
    assert model.predict_proba(X[:3]).tolist() == [[1.0]] * 3
    assert model.sample_proba(X[:3], 4).shape == (4, 3, 1)


def test_partial_fit_has_to_be_told_all_labels() -> None:
    model = MCDropoutClassifier((4,), n_members=2)
    with pytest.raises(mcdrop.RangeError, match=r"`classes` to name all labels.*np\.unique"):
        model.partial_fit(X, LABELS)
    model.partial_fit(X, LABELS, classes=["a", "b", "c"])
    with pytest.raises(mcdrop.RangeError, match="`y` to hold labels among"):
        model.partial_fit(X[:2], ["a", "d"])


def test_a_trained_module_predicts_as_wrapped_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    model = MCDropoutClassifier.from_module(
        net, classes=["x", "y", "z"], n_samples=32, random_state=3
    )
    by_hand = mcdrop.wrap(net, masks="shared").predict_with_uncertainty(
        torch.from_numpy(X[:6]).float(), task="classification", n_samples=32, seed=model.seed_
    )
    np.testing.assert_allclose(model.predict_proba(X[:6]), by_hand.probs, atol=1e-6)
    assert set(model.predict(X)) <= {"x", "y", "z"}


@pytest.mark.parametrize(("n_logits", "classes"), [(2, ["a", "b", "c"]), (1, ["a", "b"])])
def test_labels_have_to_match_the_logits(n_logits: int, classes: list[str]) -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, n_logits))
    model = MCDropoutClassifier.from_module(net, classes=classes, random_state=0)
    text = f"`classes` to hold one label for each of {n_logits} logits .*{len(classes)} labels"
    with pytest.raises(mcdrop.ShapeError, match=text):
        model.predict(np.zeros((3, 2)))


def test_partial_fit_keeps_to_the_labels_of_its_first_call() -> None:
    x, y = np.linspace(-1, 1, 40).reshape(-1, 1), np.array(["a", "b"] * 20)
    model = MCDropoutClassifier((8,), n_members=2, random_state=0)
    model.partial_fit(x, y, classes=["a", "b"]).partial_fit(x, y, classes=["b", "a"])
    text = r"`classes` to be the labels of the first call, \['a' 'b'\], but got \['a' 'c'\]"
    with pytest.raises(mcdrop.RangeError, match=text):
        model.partial_fit(x, y, classes=["a", "c"])
