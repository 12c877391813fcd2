"""The Laplace approximation of the last layer against its formulas; skipped without the library."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.baselines import LastLayerLaplace
from mcdrop.errors import NonFiniteError, ShapeError, UnsupportedError

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NEW = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.sin(X[:, :1]) + 0.1 * torch.randn(60, 1, dtype=torch.float64,
                                            generator=torch.Generator().manual_seed(2))  # fmt: skip


@pytest.fixture
def library() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import laplace  # noqa: F401
        except (ImportError, RuntimeError):
            pytest.skip("laplace-torch cannot be imported")


def network(n_outputs: int) -> nn.Sequential:
    """Trained to a minimum, as the approximation supposes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, n_outputs)).double()
    adam = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=1e-4)
    labels = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
    for _ in range(300):
        adam.zero_grad()
        out = net(X)
        loss = (out - Y).square().mean()
        if n_outputs > 1:
            loss = nn.functional.cross_entropy(out, labels)
        loss.backward()
        adam.step()
    return net


def features(net: nn.Sequential, x: Tensor) -> Tensor:
    """Inputs of the last layer with a one for its bias."""
    return torch.cat([net[:2](x), torch.ones(len(x), 1, dtype=x.dtype)], dim=1).detach()


def evidence(net: nn.Sequential, prior: Tensor, noise: Tensor) -> float:
    """Log marginal likelihood of a linear model in the features, up to a constant."""
    phi, w = features(net, X), torch.cat([p.detach().flatten() for p in net[2].parameters()])
    precision = phi.T @ phi / noise**2 + prior * torch.eye(9, dtype=torch.float64)
    fit = -len(X) * noise.log() - (net(X) - Y).detach().square().sum() / (2 * noise**2)
    penalty = -prior * w.square().sum() / 2 + 4.5 * prior.log() - torch.logdet(precision) / 2
    return (fit + penalty).item()


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_regression_is_the_linear_model_of_the_last_features_at_its_evidence() -> None:
    net = network(1).train()
    model = LastLayerLaplace(net).fit(X, Y)
    p = model.predict(NEW)
    assert isinstance(p, mcdrop.RegressionPrediction)
    prior, noise = model._laplace.prior_precision[0], model._laplace.sigma_noise.reshape(())
    phi = features(net, X)
    precision = phi.T @ phi / noise**2 + prior * torch.eye(9, dtype=torch.float64)
    new = features(net, NEW)
    variance = (new @ torch.linalg.inv(precision) * new).sum(dim=1, keepdim=True)
    torch.testing.assert_close(p.mean, net(NEW).detach())
    torch.testing.assert_close(p.epistemic_variance, variance, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(p.aleatoric_variance, noise.square().expand(5, 1), rtol=1e-6, atol=0)
    best = evidence(net, prior, noise)
    for scale in (0.95, 1.05):
        assert evidence(net, scale * prior, noise) < best + 1e-3
        assert evidence(net, prior, scale * noise) < best + 1e-3
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_classification_draws_logits_of_the_gauss_newton_covariance() -> None:
    net = network(3)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
    model = LastLayerLaplace(net, task="classification", n_samples=20_000).fit(X, y)
    p = model.predict(NEW)
    assert isinstance(p, mcdrop.ClassificationPrediction)
    phi, probs = features(net, X), net(X).softmax(dim=1).detach()
    curved = probs.diag_embed() - probs.unsqueeze(2) * probs.unsqueeze(1)
    # Weights by class, then biases: here features by class, (3 * 9, 3 * 9).
    H = torch.einsum("nab,ni,nj->aibj", curved, phi, phi).reshape(27, 27)
    prior = model._laplace.prior_precision[0]
    cov = torch.linalg.inv(H + prior * torch.eye(27, dtype=torch.float64)).reshape(3, 9, 3, 9)
    new = features(net, NEW)
    logits = torch.einsum("ni,aibj,nj->nab", new, cov, new)
    # Differences of logits are those of log probabilities, free of the softmax.
    exact = logits[:, 0, 0] + logits[:, 1, 1] - 2 * logits[:, 0, 1]
    samples = p.samples
    if samples is None:
        samples = model._laplace.predictive_samples(NEW, n_samples=20_000)
    drawn = (samples[..., 0].log() - samples[..., 1].log()).var(dim=0)
    # The standard error of a variance over S normal draws is sqrt(2 / S) = 1 %.
    torch.testing.assert_close(drawn, exact, rtol=0.05, atol=0.0)
    again = model.predict(NEW)
    assert isinstance(again, mcdrop.ClassificationPrediction)
    assert torch.equal(p.probs, again.probs)


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_images_single_columns_and_tables_are_taken() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    images = X[:40].reshape(20, 1, 2, 2).float()
    p = LastLayerLaplace(net, batch_size=7).fit(images, Y[:20, 0].float()).predict(images[:3])
    assert p.mean.shape == (3, 1)  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_a_network_without_a_linear_end_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"`model` to end in an nn\.Linear, but got"):
        LastLayerLaplace(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())).fit(X.float(), Y.float())


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laplace", None)
    with pytest.raises(UnsupportedError, match=r"`laplace` to be installed.*mcdrop\[laplace\]"):
        LastLayerLaplace(nn.Linear(2, 1)).fit(X, Y)


def test_a_broken_library_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "laplace.py").write_text("raise RuntimeError('operator torchvision::nms is gone')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "laplace", raising=False)
    with pytest.raises(
        UnsupportedError, match="`laplace` to be importable, but got operator torch"
    ):
        LastLayerLaplace(nn.Linear(2, 1)).fit(X, Y)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laplace", type(sys)("laplace"))
    model = LastLayerLaplace(nn.Linear(2, 1))
    with pytest.raises(UnsupportedError, match=r"predict: expected `self` to be fitted"):
        model.predict(X)
    with pytest.raises(ShapeError, match=r"`X` to have shape \(N, \.\.\.\)"):
        model.fit(X[:, 0], Y)
    with pytest.raises(ShapeError, match=r"fit: expected `y` to have shape \(60, 1\)"):
        model.fit(X, Y[:3])
    with pytest.raises(NonFiniteError, match="fit: expected `X` to hold"):
        model.fit(torch.full((3, 2), float("nan")), Y[:3])
    with pytest.raises(ValueError, match="LastLayerLaplace: expected `task`"):
        LastLayerLaplace(nn.Linear(2, 1), task="binary")  # type: ignore[arg-type]
