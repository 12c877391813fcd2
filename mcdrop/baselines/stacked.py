"""Many small networks trained at a time: parameters stacked along a first dimension.

Each member has its own seed, training rows, dropout rate and penalty, and all its random numbers
come from its own generator: what it becomes does not depend on who is trained beside it.

`mcdrop.estimators` trains its members with a loop of its own, because the two promise different
things. Here any network of the caller is trained (so each step is a vmap over its parameters), with
the penalty lambda |W|^2 in the loss, as in the theory that the comparison is about, for a fixed
number of epochs on all rows. There the networks are perceptrons (so a layer is one batched matrix
product), rows have weights and equal rows count as one of twice the weight to the last bit, which
scikit-learn's checks ask for, and each member stops at its best epoch on the rows it leaves out.
What both could share is the four lines that step an optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from mcdrop._engine.progress import progress_bar
from mcdrop.checks import checked_positive, require_count, require_flag, require_unit
from mcdrop.errors import OutputError, UnsupportedError

__all__ = ["Member", "Training", "train_stacked"]

Loss = Callable[[Tensor, Tensor], Tensor]

# Added to the seed of a member, beyond any seed in use.
_ORDERS, _MASKS = 1 << 40, 1 << 41

_NOT_BY_ROW = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


@dataclass(frozen=True)
class Training:
    """How the networks of a baseline are trained: Adam with a cosine decay of its rate to zero.

    Attributes:
        max_epochs: Walks over the training rows; all are walked, as nothing stops early.
        batch_size: Largest number of rows per step; batches of an epoch are of equal size.
        learning_rate: Of the first step.
        validation_fraction: Share of the rows, in (0, 1), on which rates and penalties are chosen;
            the networks are then trained anew on all rows.
        progress: Show a progress bar on standard error.

    Raises:
        RangeError: If a value lies outside its range.

    Example:
        >>> Training(max_epochs=300).batch_size
        32
    """

    max_epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-2
    validation_fraction: float = 0.2
    progress: bool = False

    def __post_init__(self) -> None:
        require_count("Training", "max_epochs", self.max_epochs)
        require_count("Training", "batch_size", self.batch_size)
        checked_positive("Training", "learning_rate", self.learning_rate)
        remedy = "Pass a share of rows such as 0.2"
        require_unit("Training", "validation_fraction", self.validation_fraction, remedy=remedy)
        require_flag("Training", "progress", self.progress)


@dataclass(frozen=True)
class Member:
    """One network to train.

    Attributes:
        rows: Its training rows, (n,), int64.
        rate: Rate of its dropout layers, in [0, 1).
        weight_decay: lambda of the penalty lambda |W|^2 on its weights; biases are free.
        seed: Of its initial weights, batches and masks.
    """

    rows: Tensor
    rate: float = 0.0
    weight_decay: float = 0.0
    seed: int = 0


class _PlannedDropout(nn.Module):
    """Inverted dropout as a function of uniform numbers from outside."""

    uniform: Tensor
    keep: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.shape: torch.Size | None = None
        self.calls = 0
        self.register_buffer("uniform", torch.zeros((), dtype=torch.float32))
        self.register_buffer("keep", torch.ones((), dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Drop where the uniform numbers exceed the probability to keep."""
        self.shape, self.calls = x.shape[1:], self.calls + 1
        return x * (self.uniform < self.keep) / self.keep


def train_stacked(
    function: str,
    build: Callable[[], nn.Module],
    X: Tensor,
    y: Tensor,
    members: Sequence[Member],
    loss: Loss,
    training: Training,
) -> list[nn.Module]:
    """Train one network per member, all of them in the same steps.

    A member minimizes the mean of its loss over its rows plus ``weight_decay * |W|^2``. An epoch
    takes as many rows of each member as the smallest has.

    Args:
        function: Public function to name in errors.
        build: Makes a fresh network; called once per member, under its seed.
        X: Features, (N, ...), float32.
        y: Targets, (N, ...).
        members: What to train.
        loss: Takes outputs (K, B, ...) and targets (K, B, ...), returns the mean of each, (K,).
        training: Epochs, batches, learning rate.

    Returns:
        The networks in eval mode; their `nn.Dropout` layers have the rate of the member.

    Raises:
        UnsupportedError: If the network holds layers that are not functions of single rows, or
            draws random numbers other than through `nn.Dropout`.
        OutputError: If training diverged.
    """
    networks = [_built(build, member.seed) for member in members]
    if X.is_floating_point():
        # A network may be built in another type, as where the caller's default is float64.
        networks = [network.to(X.dtype) for network in networks]
    skeleton = _skeleton(function, networks[0], X)
    parameters, _ = stack_module_state(networks)
    sites = [name for name, m in skeleton.named_modules() if isinstance(m, _PlannedDropout)]
    # Without dropout anywhere no masks are drawn.
    shapes = {name: _shape(skeleton, name) for name in sites if any(m.rate for m in members)}
    keep = torch.tensor([1 - member.rate for member in members], dtype=torch.float64)
    decay = torch.tensor([2 * member.weight_decay for member in members], dtype=torch.float64)
    schedule = _Schedule(members, training, shapes)

    def forward(weights: dict[str, Tensor], planned: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(skeleton, (weights, planned), (x,))

    # Members do not meet, so that the gradient of the sum is the gradient of each.
    outputs_of = torch.func.vmap(forward, randomness="error")
    adam = torch.optim.Adam(parameters.values(), lr=training.learning_rate, foreach=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, schedule.n_steps)
    label = f"Training {len(members)} networks"
    with progress_bar(function, label, schedule.n_steps, show=training.progress) as bar:
        for rows, uniforms in schedule.steps():
            planned = {f"{name}.uniform": u for name, u in uniforms.items()}
            planned |= {f"{name}.keep": keep for name in uniforms}
            adam.zero_grad(set_to_none=True)
            loss(outputs_of(parameters, planned, X[rows]), y[rows]).sum().backward()
            _add_penalty(parameters, decay)
            adam.step()
            cosine.step()
            bar.advance(1)
    for index, (network, member) in enumerate(zip(networks, members, strict=True)):
        _finish(function, network, {name: p[index] for name, p in parameters.items()}, member)
    return networks


class _Schedule:
    """Which rows and uniform numbers each step takes.

    Attributes:
        n_steps: Steps in all.
    """

    def __init__(
        self, members: Sequence[Member], training: Training, shapes: dict[str, torch.Size]
    ) -> None:
        smallest = min(len(member.rows) for member in members)
        self._batches = -(-smallest // training.batch_size)
        self._size = smallest // self._batches
        self._epochs = training.max_epochs
        self._members = members
        self._shapes = shapes
        self.n_steps = training.max_epochs * self._batches

    def steps(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield rows (K, B) and, by site, uniform numbers (K, B, ...)."""
        generators = [
            (_generator(member.seed, _ORDERS), _generator(member.seed, _MASKS))
            for member in self._members
        ]
        for _ in range(self._epochs):
            drawn = [
                self._epoch(member, *pair)
                for member, pair in zip(self._members, generators, strict=True)
            ]
            rows = torch.stack([order for order, _ in drawn]).unflatten(1, (-1, self._size))
            masks = {name: torch.stack([u[name] for _, u in drawn]) for name in self._shapes}
            for step in range(self._batches):
                yield rows[:, step], {name: u[:, step] for name, u in masks.items()}

    def _epoch(
        self, member: Member, orders: torch.Generator, masks: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw the order of the rows and all uniform numbers of one member's epoch."""
        used = self._batches * self._size
        order = member.rows[torch.randperm(len(member.rows), generator=orders)[:used]]
        uniforms = {
            name: torch.rand(
                (self._batches, self._size, *shape), generator=masks, dtype=torch.float32
            )
            for name, shape in self._shapes.items()
        }
        return order, uniforms


def _generator(seed: int, purpose: int) -> torch.Generator:
    """Return the generator of one purpose, so that none disturbs another."""
    return torch.Generator().manual_seed(seed + purpose)


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Make a network with the initial weights of a seed; the global generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _skeleton(function: str, network: nn.Module, X: Tensor) -> nn.Module:
    """Return the network as a function of its parameters and of uniform numbers."""
    skeleton = copy.deepcopy(network).train()
    for name, module in list(skeleton.named_modules()):
        if isinstance(module, _NOT_BY_ROW):
            raise _unusable(function, f"{type(module).__name__} at {name or 'the top'}")
        if isinstance(module, nn.Dropout):
            parent, _, child = name.rpartition(".")
            if not name:
                raise _unusable(function, "a lone dropout")
            setattr(skeleton.get_submodule(parent), child, _PlannedDropout())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        skeleton(X[:1])
        if not torch.equal(before, torch.get_rng_state()):
            raise _unusable(function, "random numbers drawn by other means")
    for name, module in skeleton.named_modules():
        if isinstance(module, _PlannedDropout) and module.calls != 1:
            raise _unusable(function, f"{name}, called {module.calls} times in one pass")
    return skeleton


def _unusable(function: str, found: str) -> Exception:
    return UnsupportedError.of(
        function,
        "network",
        "treat every row on its own, with nn.Dropout layers that are called once each",
        found,
        "Build it from such layers, for example Linear, ReLU and Dropout",
    )


def _shape(skeleton: nn.Module, site: str) -> torch.Size:
    """Return the shape of one row at a dropout layer."""
    shape = skeleton.get_submodule(site).shape
    return shape if isinstance(shape, torch.Size) else torch.Size()


def _add_penalty(parameters: dict[str, Tensor], twice_decay: Tensor) -> None:
    """Add the gradient of lambda |W|^2 to that of every weight, which has a matrix per member."""
    for weight in parameters.values():
        if weight.grad is not None and weight.ndim > 2:
            shape = (-1, *[1] * (weight.ndim - 1))
            weight.grad.addcmul_(weight.detach(), twice_decay.to(weight.dtype).view(shape))


def _finish(function: str, network: nn.Module, weights: dict[str, Tensor], member: Member) -> None:
    """Put the trained weights and the member's rate into its network."""
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise OutputError.of(
            function,
            "training",
            "converge",
            f"weights that are not finite (weight decay {member.weight_decay:g})",
            "Lower the learning rate: training=Training(learning_rate=1e-3)",
        )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = member.rate
    network.eval()
