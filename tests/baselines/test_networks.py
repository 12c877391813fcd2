"""Networks from a table: what is predicted, what is chosen, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.baselines import DeepEnsemble, DropoutNetwork, L2Network, Training
from mcdrop.errors import NoDropoutError, RangeError, ShapeError, UnsupportedError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = np.sin(X[:, 0]) + 0.1 * RNG.normal(size=60)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 0] > 1)
QUICK = Training(max_epochs=5)
KINDS: list[Any] = [L2Network, DeepEnsemble, DropoutNetwork]


def quick(kind: Any, **options: Any) -> Any:
    return kind((8,), weight_decay=[1e-4], training=QUICK, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["regression", "heteroscedastic", "classification"])
def test_predictions_have_the_shape_and_split_of_the_task(kind: Any, task: str) -> None:
    y = LABELS if task == "classification" else Y
    p = quick(kind, task=task).fit(X, y).predict(X[:7])
    spread: torch.Tensor
    if task == "classification":
        assert p.probs.shape == (7, 3)
        torch.testing.assert_close(p.probs.sum(dim=1), torch.ones(7).double())
        spread = p.probs_std
    else:
        assert p.mean.shape == (7,)
        assert bool((p.aleatoric_variance > 0).all())
        assert (task == "heteroscedastic") == bool(p.aleatoric_variance.std() > 1e-9)
        assert p.log_prob(Y[:7]).shape == (7,)
        spread = p.epistemic_variance
    assert bool((spread > 0).any()) == (kind is not L2Network)


@pytest.mark.parametrize("kind", KINDS)
def test_several_targets_keep_their_shape_and_units(kind: Any) -> None:
    y = np.stack([1e6 + 1e3 * Y, -1e-3 * Y], axis=1)
    model = kind((8,), weight_decay=[1e-4], training=Training(max_epochs=40)).fit(
        pd.DataFrame(X), y
    )
    p = model.predict(pd.DataFrame(X))
    assert p.mean.shape == (60, 2)
    error = (p.mean.numpy() - y).std(axis=0) / y.std(axis=0)
    assert (error < 0.7).all(), "each target is fitted on its own scale"
    ratio = p.std.mean(dim=0).numpy() / y.std(axis=0)
    assert ((ratio > 0.05) & (ratio < 2)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_units_and_constant_features_change_nothing(kind: Any) -> None:
    a = quick(kind).fit(X, Y).predict(X[:5])
    odd = np.column_stack([1e6 + 1e-2 * X, np.full(60, 7.0)])
    plain = np.column_stack([X, np.zeros(60)])
    b = quick(kind).fit(plain, Y).predict(plain[:5])
    c = quick(kind).fit(odd, 10 * Y - 3).predict(odd[:5])
    torch.testing.assert_close(c.mean, 10 * b.mean - 3, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(c.std, 10 * b.std, rtol=1e-3, atol=1e-3)
    assert a.mean.shape == b.mean.shape


def test_an_ensemble_is_the_mixture_of_its_members() -> None:
    model = quick(DeepEnsemble, n_members=3).fit(X, Y)
    p = model.predict(X[:9])
    with torch.no_grad():
        outputs = torch.cat([net(torch.from_numpy(X[:9])) for net in model.networks], dim=1).T
    np.testing.assert_allclose(p.mean, outputs.mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(p.epistemic_variance, outputs.var(dim=0), rtol=1e-12)
    assert p.samples.shape == (3, 9)
    assert len({float(row[0]) for row in outputs}) == 3, "members differ"


def test_dropout_over_an_ensemble_is_the_mixture_of_all_passes() -> None:
    model = quick(DropoutNetwork, n_members=2, n_samples=20).fit(X, Y)
    p = model.predict(X[:4])
    passes = [
        mcdrop.predict_with_uncertainty(
            net, torch.from_numpy(X[:4]), n_samples=20, keep_samples=True, seed=seed
        ).samples
        for seed, net in enumerate(model.networks)
    ]
    assert all(part is not None for part in passes)
    whole = torch.cat([part for part in passes if part is not None]).squeeze(-1)
    np.testing.assert_allclose(p.samples, whole, rtol=1e-12)
    assert p.n_samples == 40


def test_the_chosen_penalty_has_the_best_score_on_validation_rows() -> None:
    noise = RNG.normal(size=60)
    model = L2Network((30,), weight_decay=[1e-6, 10.0], training=Training(max_epochs=60))
    model.fit(X, noise)  # nothing to learn
    assert model.chosen.weight_decay == 10.0
    assert model.chosen.nll == min(choice.nll for choice in model.choices)
    model.fit(X, 5 * X[:, 0])
    assert model.chosen.weight_decay == 1e-6


def test_validation_score_is_the_likelihood_at_the_best_noise() -> None:
    model = quick(L2Network).fit(X, Y)
    p = model.predict(X)
    # For one normal, NLL at the best noise s is log(s) + 1/2 + log(2 pi) / 2.
    s = float(p.aleatoric_std[0])
    expected = np.log(s) + 0.5 + 0.5 * np.log(2 * np.pi)
    assert model.chosen.nll == pytest.approx(expected, abs=1e-6)


def test_rates_are_those_asked_for_and_the_chosen_one_is_in_force() -> None:
    model = quick(DropoutNetwork, p=[0.2, 0.4]).fit(X, Y)
    assert [choice.p for choice in model.choices] == [0.2, 0.4]
    (rate,) = {m.p for net in model.networks for m in net.modules() if isinstance(m, nn.Dropout)}
    assert rate == model.chosen.p
    assert model.predict(X[:2]).run.sites[0].p == rate


def test_dropout_off_is_the_same_training_without_passes() -> None:
    options: dict[str, Any] = {"p": 0.3}
    off = quick(DropoutNetwork, alive=False, **options).fit(X, Y)
    on = quick(DropoutNetwork, **options).fit(X, Y)
    inputs = torch.from_numpy(X[:5])
    torch.testing.assert_close(off.networks[0](inputs), on.networks[0](inputs))
    p = off.predict(X[:5])
    assert not p.epistemic_variance.any()
    torch.testing.assert_close(p.mean, off.networks[0](inputs).squeeze(-1).detach())
    # Each has the noise that suits its own predictions.
    assert not torch.equal(p.aleatoric_variance, on.predict(X[:5]).aleatoric_variance)


def test_same_seed_same_numbers() -> None:
    a, b, c = (quick(DropoutNetwork, random_state=s).fit(X, Y).predict(X) for s in (1, 1, 2))
    assert torch.equal(a.mean, b.mean)
    assert not torch.equal(a.mean, c.mean)


def test_a_network_of_ones_own_is_built_for_the_table() -> None:
    asked: list[tuple[int, int]] = []

    def build(n_inputs: int, n_outputs: int) -> nn.Module:
        asked.append((n_inputs, n_outputs))
        return nn.Sequential(nn.Linear(n_inputs, 4), nn.Tanh(), nn.Linear(4, n_outputs))

    quick_options: dict[str, Any] = {"weight_decay": [1e-4], "training": QUICK}
    L2Network(build, task="heteroscedastic", **quick_options).fit(X, Y)
    assert set(asked) == {(3, 2)}
    with pytest.raises(NoDropoutError):
        DropoutNetwork(build, **quick_options).fit(X, Y)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: quick(L2Network, task="binary"),
            RangeError,
            "L2Network: expected `task` to be one of",
        ),
        (lambda: L2Network(()), RangeError, "`network` to hold hidden widths of at least 1"),
        (lambda: L2Network((5, -1)), RangeError, r"but got \(5, -1\)"),
        (lambda: L2Network(nn.Linear(3, 1)), UnsupportedError, "which has weights already"),
        (lambda: L2Network(weight_decay=[]), RangeError, "`weight_decay` to be a number of at"),
        (lambda: L2Network(weight_decay=[-1.0]), RangeError, "of at least 0"),
        (lambda: DeepEnsemble(n_members=1), RangeError, "`n_members` to be an integer of at leas"),
        (lambda: DropoutNetwork(p=[]), RangeError, r"`p` to be a number in \[0, 1\), or sev"),
        (lambda: DropoutNetwork(p=[1.0]), RangeError, r"choose from, but got \[1.0\]\. Pass"),
        (lambda: DropoutNetwork(alive="no"), RangeError, "`alive` to be True or False"),  # type: ignore[arg-type]
        (lambda: L2Network(training=9), UnsupportedError, "`training` to be a Training, but g"),  # type: ignore[arg-type]
        (lambda: L2Network(random_state=-1), RangeError, r"integer from 0 to 2\*\*32 - 1, but"),
        (lambda: L2Network().predict(X), UnsupportedError, r"Call fit\(X, y\) first"),
        (lambda: L2Network().networks, UnsupportedError, "L2Network.networks: expected `self`"),
        (
            lambda: quick(L2Network).fit(X[:9], Y[:9]),
            RangeError,
            "hold at least 10 rows, but got 9",
        ),
        (lambda: quick(L2Network).fit(X, Y[:9]), ShapeError, r"`y` to have shape \(60,\)"),
        (
            lambda: quick(L2Network, task="classification").fit(X, Y),
            RangeError,
            "`y` to hold class indices",
        ),
        (lambda: quick(L2Network).fit(X, Y).predict(X[:, :2]), ShapeError, r"shape \(N, 3\)"),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
