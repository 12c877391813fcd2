"""The estimators are scikit-learn's in every way that it checks, and in those it does not."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import mcdrop
from mcdrop.estimators import MCDropoutClassifier, MCDropoutRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X[:, 0] - 2 * X[:, 1] + 0.1 * RNG.normal(size=60)
LABELS = np.where(Y > 0, "high", "low")

# The longest checks, which run with the slow tests.
_LONG = ("check_classifiers_train", "check_regressors_train", "check_fit_score_takes_y")


def small(kind: Any, **options: Any) -> Any:
    given = {"n_members": 2, "max_epochs": 8, "n_samples": 16, "batch_size": 16, **options}
    return kind((16,), learning_rate=2e-2, random_state=0, **given)


BOTH = [small(MCDropoutRegressor), small(MCDropoutClassifier)]
DEFAULTS = [MCDropoutRegressor(random_state=0), MCDropoutClassifier(random_state=0)]
KINDS = pytest.mark.parametrize(
    ("estimator", "y"), [(BOTH[0], Y), (BOTH[1], LABELS)], ids=["regressor", "classifier"]
)


@parametrize_with_checks(BOTH)  # type: ignore[untyped-decorator]
def test_scikit_learn_finds_nothing_wrong(estimator: Any, check: Any) -> None:
    if check.func.__name__ in _LONG:
        estimator = estimator.set_params(max_epochs=25)
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(DEFAULTS)  # type: ignore[untyped-decorator]
def test_scikit_learn_finds_nothing_wrong_with_the_defaults(estimator: Any, check: Any) -> None:
    check(estimator)


@KINDS
def test_pipelines_searches_and_cross_validation_run(estimator: Any, y: Any) -> None:
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    pipe: Any = make_pipeline(StandardScaler().set_output(transform="pandas"), clone(estimator))
    assert pipe.fit(table, y).score(table, y) > 0.6
    assert list(pipe[-1].feature_names_in_) == ["a", "b", "c"]
    name = pipe.steps[-1][0]
    search = GridSearchCV(pipe, {f"{name}__p": [0.0, 0.2]}, cv=2).fit(table, y)
    assert search.best_params_[f"{name}__p"] in (0.0, 0.2)
    assert cross_val_score(clone(estimator), X, y, cv=3).shape == (3,)


@KINDS
def test_copies_predict_the_same(estimator: Any, y: Any) -> None:
    first, second = clone(estimator).fit(X, y), clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(first))
    for other in (second, again):
        np.testing.assert_array_equal(first.predict(X), other.predict(X))
    different = clone(estimator).set_params(random_state=1).fit(X, y)
    assert not torch.equal(first.module_.weights[0], different.module_.weights[0])


@KINDS
def test_order_and_copies_of_rows_do_not_matter_to_the_last_bit(estimator: Any, y: Any) -> None:
    weight = np.arange(60) % 3
    order = np.random.default_rng(1).permutation(60)
    weighted = clone(estimator).fit(X[order], y[order], sample_weight=weight[order])
    copies = np.repeat(np.arange(60), weight)
    copied = clone(estimator).fit(X[copies], y[copies])
    for a, b in zip(weighted.module_.parameters(), copied.module_.parameters(), strict=True):
        assert torch.equal(a, b)


@KINDS
def test_the_caller_s_generators_are_left_alone(estimator: Any, y: Any) -> None:
    state: Any = np.random.get_state()
    torch_state, numpy_state = torch.get_rng_state(), state[1].copy()
    clone(estimator).fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), torch_state)
    after: Any = np.random.get_state()
    assert (after[1] == numpy_state).all()


@KINDS
def test_partial_fit_goes_on_where_it_stopped(estimator: Any, y: Any) -> None:
    options = {"classes": ["high", "low"]} if y is LABELS else {}
    model = clone(estimator).partial_fit(X[:30], y[:30], **options)
    assert model.n_iter_ == 1
    scale = model.module_.x_mean.clone()
    before = model.score(X, y)
    for _ in range(30):
        model.partial_fit(X[30:], y[30:])
    assert torch.equal(model.module_.x_mean, scale)
    assert model.n_iter_ == 31
    assert model.score(X, y) > max(before, 0.6)


@KINDS
def test_one_member_holds_out_a_share_of_the_rows(estimator: Any, y: Any) -> None:
    model = clone(estimator).set_params(n_members=1, max_epochs=30).fit(X, y)
    assert model.module_(torch.from_numpy(X)).shape[1] == 1
    assert model.score(X, y) > 0.6


def test_negative_weights_are_refused() -> None:
    with pytest.raises(mcdrop.RangeError, match="`sample_weight` to be at least 0"):
        small(MCDropoutRegressor).fit(X, Y, sample_weight=np.full(60, -1.0))


def test_weights_of_more_rows_than_can_be_drawn_are_refused() -> None:
    for weight in (1e7, 1e300):
        with pytest.raises(
            mcdrop.RangeError, match=r"`sample_weight` to sum to at most 1e\+08, as"
        ):
            small(MCDropoutRegressor).fit(X, Y, sample_weight=np.full(60, weight))


def test_masked_numbers_are_refused() -> None:
    masked = np.ma.masked_greater(X, 1.0)
    with pytest.raises(mcdrop.UnsupportedError, match="`X` to hold numbers in all places, but got"):
        small(MCDropoutRegressor).fit(masked, Y)
    with pytest.raises(mcdrop.UnsupportedError, match="`y` to hold numbers in all places, but got"):
        small(MCDropoutRegressor).fit(X, np.ma.masked_greater(Y, 0.5))


def test_a_module_trained_elsewhere_is_not_trained_on() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    model = MCDropoutRegressor.from_module(net)
    with pytest.raises(mcdrop.UnsupportedError, match="a Sequential that was trained elsewhere"):
        model.partial_fit(X, Y)


@KINDS
def test_without_dropout_the_spread_is_that_between_members(estimator: Any, y: Any) -> None:
    model = clone(estimator).set_params(p=0.0, n_members=3).fit(X, y)
    prediction = model.predict_with_uncertainty(X)
    assert prediction.n_samples == 3
    outputs = model.module_(torch.from_numpy(X)).detach()
    if y is LABELS:
        probs = outputs.softmax(dim=-1)
        torch.testing.assert_close(prediction.probs_std, probs.std(dim=1))
    else:
        expected = outputs.var(dim=1, correction=0)
        torch.testing.assert_close(prediction.epistemic_variance, expected)
    alone = clone(estimator).set_params(p=0.0, n_members=1).fit(X, y)
    assert alone.predict_with_uncertainty(X[:2]).n_samples == 1


@pytest.mark.parametrize("kind", [MCDropoutRegressor, MCDropoutClassifier])
def test_rows_carry_the_index_of_the_table(kind: Any) -> None:
    table = pd.DataFrame(np.eye(20, 2), index=[f"row {i}" for i in range(20)], columns=["a", "b"])
    y = pd.Series(np.arange(20) % 2, index=table.index)
    model = kind((4,), max_epochs=1, n_members=1, random_state=0).fit(table, y)
    assert model.predict_with_uncertainty(table[5:8]).index.tolist() == ["row 5", "row 6", "row 7"]
    assert model.predict_with_uncertainty(table[5:8]).to_pandas().index[0] == "row 5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn misses the names of the columns
        assert model.predict_with_uncertainty(table.to_numpy()).index is None
    one_class = MCDropoutClassifier((4,), max_epochs=1, random_state=0).fit(table, 0 * y)
    assert one_class.predict_with_uncertainty(table[:1]).index.tolist() == ["row 0"]
