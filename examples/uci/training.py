"""From rows and a recipe to trained networks: ordinary `nn.Module`s, many trained at a time."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from uci import kernel
from uci.data import Table

__all__ = ["Job", "Recipe", "Standardized", "train_networks"]


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained.

    Attributes:
        hidden: Units of every hidden layer.
        rate: Dropout rate after every hidden layer.
        input_rate: Dropout rate of the inputs.
        weight_decay: lambda of the penalty lambda |W|^2, in units of the standardized target.
        epochs: Passes over the training rows.
        batch_size: Rows per step.
        learning_rate: Of Adam.
        cosine: Let the learning rate fall to zero.
        heteroscedastic: Predict a log variance beside the mean.
    """

    hidden: tuple[int, ...]
    rate: float
    input_rate: float
    weight_decay: float
    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    cosine: bool = False
    heteroscedastic: bool = False


@dataclass(frozen=True)
class Job:
    """One network to train: rows, recipe, seed of weights, batches and masks."""

    table: Table
    recipe: Recipe
    seed: int


class Standardized(nn.Module):
    """A network of standardized numbers, in units of the data: features (N, D) to means (N,).

    A heteroscedastic one returns a pair: means (N,) and log variances (N,).
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def __init__(self, network: nn.Module, table: Table) -> None:
        super().__init__()
        self.network = network
        for name, value in zip(("x_mean", "x_std", "y_mean", "y_std"), _scales(table), strict=True):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Predict rows, (N, D)."""
        out = self.network((x - self.x_mean) / self.x_std)
        mean = out[:, 0] * self.y_std + self.y_mean
        if out.shape[1] == 1:
            return mean
        # The bounds that training keeps to.
        return mean, out[:, 1].clamp(-14, 6) + 2 * self.y_std.log()


def train_networks(
    jobs: Sequence[Job],
    workers: int,
    advance: Callable[[], None] = lambda: None,
    memory: MutableMapping[str, nn.Module] | None = None,
) -> list[nn.Module]:
    """Train one network per job, several at a time in threads.

    What a network becomes depends on its own job alone.

    Args:
        jobs: What to train.
        workers: Threads.
        advance: Called after each network, to move a progress bar.
        memory: Networks that were trained before, by content of the job; new ones are added.

    Returns:
        The networks in eval mode, in the order of the jobs.
    """
    memory = {} if memory is None else memory
    keys = [_key(job) for job in jobs]
    todo = {key: job for key, job in zip(keys, jobs, strict=True) if key not in memory}
    # Products of 32 rows are too small to share out between threads.
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_trained, job): key for key, job in todo.items()}
        for future in as_completed(futures):
            memory[futures[future]] = future.result()
            advance()
    return [memory[key] for key in keys]


def _key(job: Job) -> str:
    """Return a digest of all that a network depends on."""
    digest = sha256(repr((job.recipe, job.seed)).encode())
    digest.update(job.table.X.tobytes())
    digest.update(job.table.y.tobytes())
    return digest.hexdigest()


def _trained(job: Job) -> nn.Module:
    """Train one network."""
    recipe, table = job.recipe, job.table
    x_mean, x_std, y_mean, y_std = _scales(table)
    X = ((table.X - x_mean) / x_std).astype(np.float32)
    y = ((table.y - y_mean) / y_std).astype(np.float32)
    outputs = 2 if recipe.heteroscedastic else 1
    sizes = np.array([X.shape[1], *recipe.hidden, outputs], dtype=np.int64)
    weights = _first_weights(sizes, job.seed)
    rates = np.array([recipe.input_rate, *[recipe.rate] * len(recipe.hidden)], dtype=np.float64)
    kernel.train(
        X,
        y,
        sizes,
        weights,
        rates,
        float(recipe.weight_decay),
        recipe.epochs,
        recipe.batch_size,
        float(recipe.learning_rate),
        recipe.cosine,
        0.5,  # of the exponent Seitzer et al. (2022) recommend
        np.uint64(job.seed),
    )
    if not np.isfinite(weights).all():
        raise FloatingPointError(f"training diverged; lower the learning rate of {recipe}")
    return Standardized(_network(sizes, weights, rates), table).eval()


def _first_weights(sizes: kernel.Integers, seed: int) -> kernel.Floats:
    """Draw the first weights as Keras did (Glorot & Bengio 2010); biases are zero."""
    random = np.random.default_rng(seed)
    parts = []
    for inputs, units in pairwise(sizes.tolist()):
        bound = np.sqrt(6 / (inputs + units))
        parts += [random.uniform(-bound, bound, inputs * units), np.zeros(units)]
    return np.concatenate(parts).astype(np.float32)


def _network(sizes: kernel.Integers, weights: kernel.Floats, rates: kernel.Doubles) -> nn.Module:
    """Make the module that computes what the kernel trained."""
    layers: list[nn.Module] = []
    begin = 0
    for k, (inputs, units) in enumerate(pairwise(sizes.tolist())):
        linear = nn.Linear(inputs, units)
        middle, end = begin + inputs * units, begin + (inputs + 1) * units
        with torch.no_grad():
            matrix = weights[begin:middle].reshape(inputs, units)
            linear.weight.copy_(torch.from_numpy(matrix.T.copy()))
            linear.bias.copy_(torch.from_numpy(weights[middle:end]))
        layers += [nn.ReLU()] if k else []
        layers += [nn.Dropout(rates[k].item()), linear]
        begin = end
    return nn.Sequential(*layers)


def _scales(table: Table) -> tuple[kernel.Doubles, kernel.Doubles, float, float]:
    """Return means and standard deviations of features and targets; 1 where constant."""
    x_std, y_std = table.X.std(axis=0), table.y.std()
    # Rounding gives a constant feature some 1e-13 of spread, which float32 would blow up.
    constant = x_std <= 1e-10 * np.abs(table.X).max(axis=0)
    return (
        table.X.mean(axis=0),
        np.where(constant, 1.0, x_std),
        float(table.y.mean()),
        float(y_std) if y_std > 0 else 1.0,
    )
