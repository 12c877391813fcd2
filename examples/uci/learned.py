"""Two ingredients more: rates that are learned with the weights, and a loss that trains the spread.

Both take the place of the choice among fixed rates in `selection.py`, with the same network of two
hidden layers, the same number of steps, and noise that is fitted to the same held-out rows.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

import mcdrop
from mcdrop.layers import ConcreteDropout, concrete_regularizer, second_moment_loss
from uci.data import Table
from uci.methods import Fitted, Method, Run
from uci.scoring import DropoutPredictor
from uci.selection import random_folds
from uci.training import Standardized

__all__ = ["concrete_method", "second_moment_method"]

# As in `selection.py`, for tables of few rows.
_BATCH, _LEARNING_RATE, _STEPS = 32, 3e-3, 5_000


class Objective(nn.Module, ABC):
    """A network with the loss that it is trained by.

    Attributes:
        network: Standardized features (N, D) to values (N, 1).
    """

    network: nn.Sequential

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch, x (N, D) and y (N, 1)."""

    @abstractmethod
    def rates(self) -> list[float]:
        """Return the rate of the dropout before each linear layer."""


class Concrete(Objective):
    """Normal likelihood with learned noise, and the regularizer that holds the rates up.

    Args:
        sizes: Of inputs, hidden layers and output.
        n_rows: Training rows; smaller of the tables that are trained side by side.
    """

    def __init__(self, sizes: Sequence[int], n_rows: int) -> None:
        super().__init__()
        self.n_rows = n_rows
        layers: list[nn.Module] = []
        for k, (inputs, units) in enumerate(pairwise(sizes)):
            # The inputs are not dropped, as in the other methods.
            linear = nn.Linear(inputs, units)
            layers += [nn.ReLU(), ConcreteDropout(linear, 0.05)] if k else [linear]
        self.network = nn.Sequential(*layers)
        self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return nats per row, up to a constant."""
        squares = (self.network(x) - y).square().mean()
        likelihood = (self.log_precision.exp() * squares - self.log_precision) / 2
        return likelihood + concrete_regularizer(self.network, self.n_rows, length_scale=1e-2)

    def rates(self) -> list[float]:
        """Return the learned rates."""
        found = [m.p.item() for m in self.network if isinstance(m, ConcreteDropout)]
        return [0.0, *found]


class SecondMoment(Objective):
    """The second-moment loss at a fixed rate.

    Args:
        sizes: Of inputs, hidden layers and output.
        n_rows: Not used.
        rate: Of the hidden units.
    """

    def __init__(self, sizes: Sequence[int], n_rows: int, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        layers: list[nn.Module] = []
        for k, (inputs, units) in enumerate(pairwise(sizes)):
            layers += [nn.ReLU(), nn.Dropout(rate)] if k else []
            layers.append(nn.Linear(inputs, units))
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss, units of y squared."""
        passed = self.network.train()(x)
        center = self.network.eval()(x)
        return second_moment_loss(passed, center, y)

    def rates(self) -> list[float]:
        """Return the fixed rates."""
        n_linear = sum(isinstance(m, nn.Linear) for m in self.network)
        return [0.0, *[self.rate] * (n_linear - 1)]


Build = Callable[[Sequence[int], int], Objective]


def learned_method(build: Build) -> Method:
    """Return a method that trains by an objective, and fits the noise to held-out rows."""

    def method(tables: Sequence[Table], run: Run) -> list[Fitted]:
        hidden = (run.tuned.n_hidden,) * 2
        folds = [random_folds(table, seed) for seed, table in enumerate(tables)]
        rest = [
            table.rows(np.setdiff1d(np.arange(len(table)), held))
            for table, parts in zip(tables, folds, strict=True)
            for held in parts
        ]
        n_steps = run.epochs or _STEPS
        judged = iter(trained(build, rest, hidden, n_steps, seed=0))
        noises = [
            _noise([(next(judged), table.rows(held)) for held in parts])
            for table, parts in zip(tables, folds, strict=True)
        ]
        networks = trained(build, tables, hidden, n_steps, seed=1)
        run.advance()
        return [
            Fitted(
                DropoutPredictor([network], run.n_samples, noise, seed=seed),
                {"noise_std": noise, "rates": [round(rate, 4) for rate in _rates(network)]},
            )
            for seed, (network, noise) in enumerate(zip(networks, noises, strict=True))
        ]

    return method


def trained(
    build: Build, tables: Sequence[Table], hidden: Sequence[int], n_steps: int, seed: int
) -> list[nn.Module]:
    """Train one network per table, all of them in the same steps of Adam.

    Returns:
        Networks in units of the data, in eval mode, with plain dropout of the rates trained with.
    """
    random = torch.Generator().manual_seed(seed)
    sizes = (tables[0].X.shape[1], *hidden, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objectives = [build(sizes, min(map(len, tables))) for _ in tables]
        parameters, buffers = stack_module_state(list[nn.Module](objectives))
        skeleton = copy.deepcopy(objectives[0])

        def loss(
            weights: dict[str, Tensor], held: dict[str, Tensor], x: Tensor, y: Tensor
        ) -> Tensor:
            out: Tensor = functional_call(skeleton, (weights, held), (x, y))
            return out

        losses = torch.func.vmap(loss, randomness="different")
        adam = torch.optim.Adam(parameters.values(), lr=_LEARNING_RATE, foreach=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
        data = [_standardized(table) for table in tables]
        for _ in range(n_steps):
            rows = [torch.randint(len(x), (_BATCH,), generator=random) for x, _ in data]
            x, y = (
                torch.stack([each[k][r] for each, r in zip(data, rows, strict=True)])
                for k in (0, 1)
            )
            adam.zero_grad(set_to_none=True)
            losses(parameters, buffers, x, y).sum().backward()
            adam.step()
            cosine.step()
    for index, objective in enumerate(objectives):
        objective.load_state_dict({name: p[index].detach() for name, p in parameters.items()})
    return [_plain(o, table) for o, table in zip(objectives, tables, strict=True)]


def _standardized(table: Table) -> tuple[Tensor, Tensor]:
    """Return features (N, D) and targets (N, 1) in the units that the network sees."""
    frame = Standardized(nn.Identity(), table)
    X, y = (torch.tensor(values, dtype=torch.float32) for values in (table.X, table.y))
    return (X - frame.x_mean) / frame.x_std, ((y - frame.y_mean) / frame.y_std)[:, None]


def _plain(objective: Objective, table: Table) -> nn.Module:
    """Return the trained network with plain dropout before its linear layers."""
    linears = [m for m in objective.network.modules() if isinstance(m, nn.Linear)]
    layers: list[nn.Module] = []
    for k, (linear, rate) in enumerate(zip(linears, objective.rates(), strict=True)):
        layers += [nn.ReLU()] if k else []
        layers += [nn.Dropout(rate), linear]
    return Standardized(nn.Sequential(*layers), table).eval()


def _rates(network: nn.Module) -> list[float]:
    return [m.p for m in network.modules() if isinstance(m, nn.Dropout)]


def _noise(parts: Sequence[tuple[nn.Module, Table]]) -> float:
    """Fit the noise to rows that the networks were not trained on."""
    passes = [DropoutPredictor([network], 200, 1.0)(held.X).samples for network, held in parts]
    samples = torch.cat([each for each in passes if each is not None], dim=1)
    y = torch.from_numpy(np.concatenate([held.y for _, held in parts]))
    return float(mcdrop.fit_noise_std(mcdrop.RegressionPrediction.from_samples(samples), y))


concrete_method = learned_method(Concrete)
second_moment_method = learned_method(SecondMoment)
