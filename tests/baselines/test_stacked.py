"""Networks trained at a time: against a plain loop, against each other, and against ridge."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.baselines import equivalent_ridge_penalty
from mcdrop.baselines.stacked import Member, Training, train_stacked
from mcdrop.errors import OutputError, RangeError, UnsupportedError

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
ROWS = torch.arange(40)
QUICK = Training(max_epochs=3, batch_size=16)


def net() -> nn.Module:
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    return layers.double()


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (outputs - y).square().sum(dim=-1).mean(dim=-1)


def train(
    members: list[Member],
    build: Callable[[], nn.Module] = net,
    training: Training = QUICK,
    features: Tensor = X,
) -> list[nn.Module]:
    return train_stacked("fit", build, features, Y, members, loss, training)


def test_members_become_what_they_become_alone() -> None:
    members = [
        Member(ROWS[:39], 0.0, 0.0, seed=3),
        Member(ROWS[:39], 0.3, 1e-2, seed=3),
        Member(ROWS.flip(0)[:39], 0.3, 1e-2, seed=5),
    ]
    together = train(members)
    for network, member in zip(together, members, strict=True):
        (alone,) = train([member])
        for a, b in zip(network.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert [m.p for n in together for m in n.modules() if isinstance(m, nn.Dropout)] == [
        0,
        0.3,
        0.3,
    ]
    assert not any(network.training for network in together)


def test_one_member_is_a_plain_training_loop() -> None:
    decay = 0.05
    (found,) = train([Member(ROWS, 0.0, decay, seed=7)])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = net().eval()  # dropout off
    order = torch.Generator().manual_seed(7 + 2**40)
    adam = torch.optim.Adam(network.parameters(), lr=QUICK.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3 * 3)
    for _ in range(3):
        # 40 rows make 3 batches of 13.
        for rows in torch.randperm(40, generator=order)[:39].split(13):
            adam.zero_grad()
            weights = [p for p in network.parameters() if p.ndim > 1]
            penalty = decay * sum(w.square().sum() for w in weights)
            (0.5 * F.mse_loss(network(X[rows]), Y[rows]) * 2 + penalty).backward()
            adam.step()
            cosine.step()
    for a, b in zip(found.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def linear() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2, bias=False)).double()


@pytest.mark.parametrize(("p", "decay"), [(0.3, 0.0), (0.0, 0.1), (0.5, 0.1)])
def test_training_a_linear_model_under_dropout_converges_to_ridge(p: float, decay: float) -> None:
    # (1 / 2N) |y - X w|^2 + sum_j (penalty_j / 2N + lambda) w_j^2 has the minimum
    # (X'X + diag(penalty) + 2 N lambda I)^-1 X'y.
    ridge = torch.diag(equivalent_ridge_penalty(X, p) + 2 * 40 * decay)
    exact = torch.linalg.solve(X.T @ X + ridge, X.T @ Y).T
    members = [Member(ROWS, p, decay, seed) for seed in range(24)]
    training = Training(max_epochs=400, batch_size=40, learning_rate=0.03)
    weights = torch.stack([next(n.parameters()).detach() for n in train(members, linear, training)])
    error = weights.std(dim=0) / 24**0.5
    assert bool(((weights.mean(dim=0) - exact).abs() < 4 * error + 1e-3).all())
    # The penalty matters: without it the weights would be elsewhere.
    plain = torch.linalg.lstsq(X, Y).solution.T
    assert float((plain - exact).abs().max()) > 0.02


def test_tokens_are_looked_up_in_networks_of_their_own_type() -> None:
    def build() -> nn.Module:
        layers = (nn.Embedding(5, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 2))
        return nn.Sequential(*layers).double()

    tokens = torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(2))
    (network,) = train([Member(ROWS, 0.1, 0.0, seed=0)], build, features=tokens)
    assert {x.dtype for x in network.parameters()} == {torch.float64}
    assert network(tokens).shape == (40, 2)


def test_the_global_generator_is_put_back() -> None:
    before = torch.get_rng_state()
    train([Member(ROWS, 0.5, 0.0, 0)])
    assert torch.equal(before, torch.get_rng_state())


def test_masks_differ_by_member_and_step_and_keep_the_mean() -> None:
    seen: list[Tensor] = []

    class Ones(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.scale = nn.Parameter(torch.ones(1, 2, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(torch.ones(len(x), 2, dtype=x.dtype) + 0 * x[:, :2]) * self.scale

    def spying(outputs: Tensor, y: Tensor) -> Tensor:
        seen.append(outputs.detach())
        return 0 * outputs.sum(dim=(1, 2))

    members = [Member(ROWS, rate, 0.0, seed) for rate, seed in ((0.0, 0), (0.4, 1), (0.4, 2))]
    many = Training(max_epochs=60, batch_size=40)
    train_stacked("fit", Ones, X, Y, members, spying, many)
    masks = torch.stack(seen)  # (steps, members, rows, 2)
    assert bool((masks[:, 0] == 1).all())
    assert not torch.equal(masks[:, 1], masks[:, 2])
    assert not torch.equal(masks[0, 1], masks[1, 1])
    kept = (masks[:, 1:] > 0).double()
    torch.testing.assert_close(masks[:, 1:], kept / 0.6)
    # 9600 draws: 4 standard errors of a share of 0.6 are 0.02.
    assert abs(kept.mean().item() - 0.6) < 0.02


def norm() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2).double(), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.linear(self.drop(x)))


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (norm, "BatchNorm1d at 1"),
        (Functional, "random numbers drawn by other means"),
        (Twice, "drop, called 2 times in one pass"),
        (lambda: nn.Dropout(0.5), "a lone dropout"),
    ],
)
def test_networks_that_cannot_be_stacked_are_named(
    build: Callable[[], nn.Module], found: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"fit: expected `network` to .* but got {found}"):
        train([Member(ROWS, 0.5, 0.0, 0)], build)


def test_divergence_is_said() -> None:
    with pytest.raises(OutputError, match="`training` to converge, but got weights that are not"):
        train([Member(ROWS)], features=X * 1e200)


def test_mistakes_in_training_are_named() -> None:
    with pytest.raises(RangeError, match="Training: expected `max_epochs` to be an int"):
        Training(max_epochs=0)
    with pytest.raises(RangeError, match="`learning_rate` to be a finite number above 0"):
        Training(learning_rate=-1)
    with pytest.raises(RangeError, match=r"`validation_fraction` to lie in \(0, 1\)"):
        Training(validation_fraction=0.0)


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    train([Member(ROWS), Member(ROWS)], training=Training(max_epochs=1, progress=True))
    shown = capsys.readouterr()
    assert "Training 2 networks" in shown.err
    assert not shown.out


def test_the_given_network_is_not_shared() -> None:
    template = net()
    before = copy.deepcopy(template.state_dict())
    train([Member(ROWS)], lambda: copy.deepcopy(template))
    assert all(torch.equal(template.state_dict()[k], v) for k, v in before.items())
