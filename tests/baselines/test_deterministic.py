"""The network with its dropout off."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.baselines.deterministic import Deterministic

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


def test_regression_is_the_plain_output_with_the_noise_of_the_fit() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    y = net.eval()(X).detach() + torch.tensor([3.0, -4.0])
    prediction = Deterministic(net.train(), batch_size=7).fit(X, y).predict(X)
    assert isinstance(prediction, mcdrop.RegressionPrediction)
    torch.testing.assert_close(prediction.mean, net.eval()(X))
    torch.testing.assert_close(prediction.std[0], torch.tensor([3.0, 4.0]))
    assert bool((prediction.epistemic_variance == 0).all())
    assert prediction.interval(0.9)[0].shape == (30, 2)


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_classification_is_the_plain_output(task: str) -> None:
    net = nn.Sequential(nn.Linear(4, 3 if task == "classification" else 1), nn.Dropout(0.5))
    prediction = Deterministic(net, task=task).predict(X)  # type: ignore[arg-type]
    assert isinstance(prediction, mcdrop.ClassificationPrediction)
    logits = net.eval()(X)
    if task == "binary":
        torch.testing.assert_close(prediction.probs[:, 1:], logits.sigmoid())
    else:
        torch.testing.assert_close(prediction.probs, logits.softmax(dim=1))
    assert bool((prediction.mutual_information == 0).all())


def test_training_flags_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5)).train()
    Deterministic(net).fit(X, torch.zeros(30))
    assert net.training
    assert net[1].training


def test_mistakes_are_named() -> None:
    net = nn.Linear(4, 1)
    with pytest.raises(mcdrop.UnsupportedError, match=r"Call fit\(X, y\) on held-out rows"):
        Deterministic(net).predict(X)
    with pytest.raises(mcdrop.ShapeError, match=r"`y` to have shape \(30, 1\)"):
        Deterministic(net).fit(X, torch.zeros(29))
    with pytest.raises(mcdrop.RangeError, match='`task` to be one of "regression", "heterosc'):
        Deterministic(net, task="ranking")  # type: ignore[arg-type]
    with pytest.raises(mcdrop.RangeError, match='`output_type` to be one of "log_variance"'):
        Deterministic(net, task="heteroscedastic")
    with pytest.raises(mcdrop.RangeError, match='`output_type` to be one of "logits"'):
        Deterministic(net, task="binary", output_type="variance")
    with pytest.raises(mcdrop.OutputError, match="return .mean, log_variance. of one shape"):
        Deterministic(net, task="heteroscedastic", output_type="variance").predict(X)


def test_heteroscedastic_noise_is_the_networks_own() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.drop = nn.Linear(4, 2), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = self.drop(self.linear(x))
            return out[:, :1], out[:, 1:]

    net = Pair().eval()
    mean, log_variance = net(X)
    p = Deterministic(net, task="heteroscedastic", output_type="log_variance").predict(X)
    assert isinstance(p, mcdrop.RegressionPrediction)
    torch.testing.assert_close(p.mean, mean)
    torch.testing.assert_close(p.aleatoric_variance, log_variance.exp())
    assert bool((p.epistemic_variance == 0).all())
    assert p.family == "normal"


def test_multilabel_scores_become_two_classes_for_each_label() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).eval()
    p = Deterministic(net, task="multilabel").predict(X)
    assert isinstance(p, mcdrop.ClassificationPrediction)
    assert p.probs.shape == (30, 2, 3)
    torch.testing.assert_close(p.probs[:, 1], net(X).sigmoid())
    assert p.log_prob(torch.ones(30, 3)).shape == (30, 3)


def test_both_agree_with_dropout_at_rate_zero() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0)).eval()
    with pytest.warns(UserWarning, match="all 2 passes are alike"):
        by_passes = mcdrop.wrap(net, p=1e-9).predict_with_uncertainty(
            X, task="multilabel", n_samples=2, seed=0
        )
    plain = Deterministic(net, task="multilabel").predict(X)
    assert isinstance(by_passes, mcdrop.ClassificationPrediction)
    assert isinstance(plain, mcdrop.ClassificationPrediction)
    torch.testing.assert_close(plain.probs, by_passes.probs)
