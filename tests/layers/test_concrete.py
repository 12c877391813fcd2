"""Concrete dropout: relaxation, gradient, what is learned, and the regularizer by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.errors import NoDropoutError, RangeError, UnsupportedError
from mcdrop.layers import ConcreteDropout, concrete_regularizer
from tests.layers.passes import assert_moments, draw


def identity(n: int) -> nn.Linear:
    """A linear layer that returns its input."""
    linear = nn.Linear(n, n, bias=False)
    nn.init.eye_(linear.weight)
    return linear


def multipliers(layer: ConcreteDropout, n: int, seed: int = 0) -> Tensor:
    """What the layer multiplies `n` rows of features by in train mode."""
    torch.manual_seed(seed)
    return layer.train()(torch.ones(n, layer.layer.weight.shape[1])).detach()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_relaxation_tends_to_bernoulli_masks_as_temperature_falls(p: float) -> None:
    torch.manual_seed(0)
    # As t -> 0, sigmoid((logit p + logit u) / t) -> 1 if u > 1 - p, else 0.
    kept = torch.rand(2000, 5) <= 1 - p
    hard = kept / (1 - p)
    distances = []
    for temperature in (1.0, 0.1, 0.01, 1e-4):
        relaxed = multipliers(ConcreteDropout(identity(5), p, temperature), 2000)
        assert bool(((relaxed >= 0) & (relaxed <= 1 / (1 - p) + 1e-5)).all())
        distances.append((relaxed - hard).abs().mean().item())
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3


def test_train_mode_draws_one_value_per_row_and_feature() -> None:
    values = multipliers(ConcreteDropout(identity(6), 0.3), 100)
    assert len(values.unique()) > 300
    assert bool((values != values[:1]).any())
    assert bool((values != values[:, :1]).any())


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv1d(3, 3, 1, bias=False), (8, 3, 5)),
        (nn.Conv2d(3, 3, 1, bias=False), (8, 3, 5, 4)),
        (nn.Conv2d(3, 3, 1, bias=False), (3, 5, 4)),
        (nn.Conv3d(3, 3, 1, bias=False), (8, 3, 2, 3, 4)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_convolutions_lose_whole_channels(
    conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: tuple[int, ...], training: bool
) -> None:
    nn.init.dirac_(conv.weight)
    layer = ConcreteDropout(conv, 0.4).train(training)
    spatial = len(conv.kernel_size)
    x = torch.ones(shape)
    out = layer(x).detach() if training else draw(layer, x, 5)
    by_channel = out.flatten(-spatial)
    assert bool((by_channel == by_channel[..., :1]).all())
    assert len(by_channel[..., 0].unique()) > 1


def test_sampled_masks_are_hard_at_the_learned_rate() -> None:
    p = 0.35
    linear = nn.Linear(4, 2).double()
    layer = ConcreteDropout(linear, p)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance = p / (1 - p) * x.square() @ linear.weight.detach().square().T
    passes = draw(nn.Sequential(layer), x, 20_000)
    assert_moments(passes, linear(x).detach(), variance)
    (site,) = mcdrop.wrap(layer).sites(x)
    assert site.p == pytest.approx(p)
    with torch.no_grad():
        layer.rate_logit.fill_(math.log(0.9 / 0.1))
    (site,) = mcdrop.wrap(layer).sites(x)
    assert site.p == pytest.approx(0.9)
    ones = draw(ConcreteDropout(identity(4), p), torch.ones(2, 4), 50)
    assert len(ones.unique()) == 2


def test_eval_mode_is_the_layer_alone() -> None:
    linear = nn.Linear(4, 2)
    x = torch.randn(3, 4)
    assert torch.equal(ConcreteDropout(linear, 0.5).eval()(x), linear(x))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_gradient_of_the_logit_agrees_with_finite_differences(temperature: float) -> None:
    torch.manual_seed(0)
    layer = ConcreteDropout(nn.Linear(4, 3).double(), 0.3, temperature)
    x = torch.randn(5, 4, dtype=torch.float64)

    def loss(logit: float) -> Tensor:
        torch.manual_seed(1)
        with torch.no_grad():
            layer.rate_logit.fill_(logit)
        value: Tensor = layer(x).square().mean() + layer.regularizer(10)
        return value

    loss(-0.8).backward()
    assert layer.rate_logit.grad is not None
    slope = (loss(-0.8 + 1e-6) - loss(-0.8 - 1e-6)).item() / 2e-6
    assert layer.rate_logit.grad.item() == pytest.approx(slope, rel=1e-5)


def test_mean_gradient_is_that_of_the_exact_loss() -> None:
    torch.manual_seed(0)
    p, n = 0.3, 1_000_000
    linear = nn.Linear(3, 1, bias=False)
    layer = ConcreteDropout(linear, p, temperature=0.02)
    x = torch.tensor([[0.5, -1.0, 2.0]])
    layer(x.expand(n, 3)).square().mean().backward()
    # E (w . x m / (1 - p))^2 = (w . x)^2 + p / (1 - p) sum (w x)^2; its slope in p is
    # sum (w x)^2 / (1 - p)^2, and dp / dlogit = p (1 - p).
    exact = (linear.weight * x).square().sum().item() * p / (1 - p)
    assert layer.rate_logit.grad is not None
    # At this temperature the relaxation biases the gradient by a few hundredths, and the sampling
    # error is another one or two.
    assert layer.rate_logit.grad.item() == pytest.approx(exact, rel=0.08)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small steps run faster without threads to wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learned_rate(x: Tensor, y: Tensor, epochs: int = 250) -> float:
    """Rate of a linear model trained with its regularizer."""
    torch.manual_seed(0)
    layer = ConcreteDropout(nn.Linear(x.shape[1], 1), 0.2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean() / 2 + layer.regularizer(len(x))
        loss.backward()
        optimizer.step()
    return layer.p.item()


@pytest.mark.usefixtures("one_thread")
def test_learned_rate_is_high_for_noise_and_low_for_signal() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    noise = torch.randn(200, 1, generator=generator)
    relevant = x.sum(dim=1, keepdim=True) + 0.1 * noise
    assert learned_rate(x, relevant) < 0.05
    assert learned_rate(x, noise) > 0.3


@pytest.mark.usefixtures("one_thread")
def test_learned_rate_falls_with_the_number_of_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 5, generator=generator)
    y = x.sum(dim=1, keepdim=True) + torch.randn(1000, 1, generator=generator)
    rates = [learned_rate(x[:n], y[:n]) for n in (10, 100, 1000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 2 * rates[1] > 4 * rates[2]


@pytest.mark.parametrize(("share", "sign"), [(0.85, -1), (1.15, 1)])
def test_training_pulls_the_rate_to_the_minimizer_of_the_exact_objective(
    share: float, sign: int
) -> None:
    torch.manual_seed(0)
    n_rows, w = 50, torch.tensor([0.2, -0.1, 0.3])
    x = torch.randn(n_rows, 3)

    def slope(p: float) -> float:
        """Derivative in p of half the expected squared error plus the regularizer."""
        error = (w * x).square().sum(dim=1).mean().item() / 2
        weights = w.square().sum().item() / 2 / n_rows
        return (error + weights) / (1 - p) ** 2 + 3 / n_rows * math.log(p / (1 - p))

    layer = ConcreteDropout(nn.Linear(3, 1, bias=False), share * _root(slope), temperature=0.02)
    with torch.no_grad():
        layer.layer.weight.copy_(w)
    many = x.repeat(20_000, 1)
    error = (layer(many) - (many @ w).unsqueeze(1)).square().mean() / 2
    (error + layer.regularizer(n_rows)).backward()
    assert layer.rate_logit.grad is not None
    assert layer.rate_logit.grad.sign().item() == sign


def _root(slope: Callable[[float], float]) -> float:
    """Where an increasing function on (0, 1) is zero, by bisection."""
    low, high = 1e-9, 1 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low


def test_regularizer_by_hand() -> None:
    linear = nn.Linear(2, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 2.0]]))
        linear.bias.fill_(100.0)
    # |W|^2 = 5, K = 2, and the bias does not count.
    half = ConcreteDropout(linear, p_init=0.5)
    # (5 / (2 * 0.5) - 2 log 2) / 10.
    assert half.regularizer(10).item() == pytest.approx((5 - 2 * math.log(2)) / 10)
    # l = 3, tau = 4: (9 * 5 / (2 * 0.5) - 2 log 2) / (4 * 10).
    scaled = half.regularizer(10, length_scale=3.0, precision=4.0).item()
    assert scaled == pytest.approx((45 - 2 * math.log(2)) / 40)
    # H(0.2) = 0.2 log 5 + 0.8 log 1.25.
    fifth = ConcreteDropout(linear, p_init=0.2).regularizer(1).item()
    assert fifth == pytest.approx(5 / 1.6 - 2 * (0.2 * math.log(5) + 0.8 * math.log(1.25)))


def test_regularizer_is_the_papers_with_its_own_weights() -> None:
    p, l_squared = 0.3, 2.0
    linear = nn.Linear(6, 4)
    ours = ConcreteDropout(linear, p).regularizer(1, length_scale=l_squared**0.5).item()
    # The paper's weights M are dropped without scaling, so M = W / (1 - p) is the same model:
    # l^2 (1 - p) / 2 |M|^2 - K H(p).
    theirs = linear.weight.detach() / (1 - p)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    paper = l_squared * (1 - p) / 2 * theirs.square().sum().item() - 6 * entropy
    assert ours == pytest.approx(paper, rel=1e-5)


def test_regularizer_counts_channels_of_a_grouped_convolution() -> None:
    conv = nn.Conv2d(6, 4, 3, groups=2)
    nn.init.zeros_(conv.weight)
    assert ConcreteDropout(conv, 0.5).regularizer(1).item() == pytest.approx(-6 * math.log(2))


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_regularizer_has_a_gradient_where_the_rate_rounds_to_its_limits(logit: float) -> None:
    layer = ConcreteDropout(nn.Linear(2, 1).double())
    with torch.no_grad():
        layer.rate_logit.fill_(logit)
    layer.regularizer(1).backward()
    assert layer.rate_logit.grad is not None
    assert bool(layer.rate_logit.grad.isfinite())


def test_sum_of_regularizers_counts_a_layer_once() -> None:
    first, second = ConcreteDropout(nn.Linear(3, 3)), ConcreteDropout(nn.Linear(3, 1), 0.3)
    net = nn.Sequential(first, nn.ReLU(), first, nn.Sequential(second))
    options = {"length_scale": 0.5, "precision": 2.0}
    total = concrete_regularizer(net, 20, **options)
    parts = first.regularizer(20, **options) + second.regularizer(20, **options)
    torch.testing.assert_close(total, parts)
    total.backward()
    assert second.rate_logit.grad is not None


def test_model_without_concrete_dropout_is_refused() -> None:
    with pytest.raises(NoDropoutError, match="have a ConcreteDropout layer, but got Sequential"):
        concrete_regularizer(nn.Sequential(nn.Dropout(0.5)), 10)


@pytest.mark.parametrize("p_init", [0.0, 1.0, -1, "0.1"])
def test_bad_initial_rates_are_refused(p_init: Any) -> None:
    with pytest.raises(RangeError, match=r"expected `p_init` to lie in \(0, 1\), but got"):
        ConcreteDropout(nn.Linear(2, 2), p_init)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ConcreteDropout(nn.Linear(2, 2), 0.1, 0.0), "`temperature` to be a finite"),
        (lambda: _layer().regularizer(0), "`n_rows` to be an integer of at least 1, but got 0"),
        (lambda: _layer().regularizer(1.5), "`n_rows` to be an integer"),
        (lambda: _layer().regularizer(1, length_scale=-1), "`length_scale` to be a finite number"),
        (lambda: _layer().regularizer(1, precision=math.inf), "`precision` to be a finite number"),
    ],
)
def test_bad_options_are_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(RangeError, match=text):
        call()


def test_other_layers_are_refused() -> None:
    other: Any = nn.LSTM(2, 2)
    with pytest.raises(UnsupportedError, match=r"`layer` to be nn\.Linear, .* but got LSTM"):
        ConcreteDropout(other)


def test_repr_names_the_learned_rate() -> None:
    assert "p=0.1, temperature=0.1" in repr(_layer())


def _layer() -> Any:
    return ConcreteDropout(nn.Linear(2, 2))
