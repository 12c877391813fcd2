"""What the regressor and the classifier share: parameters, training, passes of all members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import Tensor, nn
from typing_extensions import Self

from mcdrop.checks import require_readable
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.estimators.network import Members
from mcdrop.estimators.options import check_options, layer_sizes, random_numbers
from mcdrop.estimators.rows import TrainingRows, folds, rounded, training_rows
from mcdrop.estimators.training import Recipe, train
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.wrapper import wrap

__all__ = ["MCDropoutEstimator"]

# With fewer rows than this per member, no fold can tell when to stop.
_ROWS_PER_FOLD = 4

# An epoch draws as many rows as the weights sum to; more would not fit in memory.
_MOST_ROWS = 1e8

# Steps of "auto" training: enough for small tables, and few walks over large ones.
_STEPS = 2000
_MAX_EPOCHS = 400
_MIN_EPOCHS = 20


class MCDropoutEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the two estimators; `fit` trains, `_passes` predicts."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64, 64),
        p: float = 0.05,
        n_members: int = 5,
        n_samples: int = 100,
        *,
        activation: str = "relu",
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-3,
        batch_size: int | str = "auto",
        max_epochs: int | str = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 50,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.p = p
        self.n_members = n_members
        self.n_samples = n_samples
        self.activation = activation
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def _validated(self, X: Any, *y: Any, reset: bool, **options: Any) -> Any:
        """Check features, and targets where they are given, as scikit-learn does."""
        for name, values in zip(("X", "y"), (X, *y), strict=False):
            # scikit-learn reads the numbers under a mask, too.
            require_readable(type(self).__name__, name, values)
        options = {"dtype": np.float64, "reset": reset, **options}
        try:
            from sklearn.utils.validation import validate_data
        except ImportError:  # scikit-learn < 1.6
            return self._validate_data(X, *y, **options)
        return validate_data(self, X, *y, **options)

    def _weights(self, sample_weight: Any, X: Any) -> Any:
        """Return weights as float64, or None."""
        if sample_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if (weight < 0).any():
            raise RangeError.of(
                f"{type(self).__name__}.fit",
                "sample_weight",
                "be at least 0",
                f"{weight.min():g}",
                "Leave out rows that do not count",
            )
        if weight.sum() > _MOST_ROWS:
            raise RangeError.of(
                f"{type(self).__name__}.fit",
                "sample_weight",
                f"sum to at most {_MOST_ROWS:g}, as a row of weight k counts as k rows",
                f"{weight.sum():g}",
                "Divide the weights by their mean",
            )
        return weight

    def _recipe(self, n_rows: int) -> Recipe:
        """Return how to train so many rows."""
        batch = self.batch_size
        if isinstance(batch, str):
            batch = min(256, max(16, n_rows // 16))
        epochs = self.max_epochs
        if isinstance(epochs, str):
            steps = math.ceil(n_rows / batch)
            epochs = min(_MAX_EPOCHS, max(_MIN_EPOCHS, math.ceil(_STEPS / steps)))
        patience = self.patience if self.early_stopping else None
        return Recipe(epochs, batch, self.learning_rate, self.weight_decay, patience)

    def _start(self, rows: TrainingRows, n_outputs: int, generator: torch.Generator) -> Members:
        """Return untrained members in the scale of the features."""
        module = Members(
            rows.x.shape[1],
            layer_sizes(self.hidden_layer_sizes),
            n_outputs,
            self.n_members,
            self.p,
            self.activation,
            generator,
        )
        module.x_mean, module.x_std = rounded(*rows.scale(rows.x))
        self._set_scale(rows, module)
        return module.eval()

    def _train(
        self, X: Any, y: Any, sample_weight: Any, strata: Any, n_outputs: int
    ) -> tuple[TrainingRows, Tensor]:
        """Train new members on targets (N, K); return the distinct rows and their folds."""
        generator = self._seeded()
        rows = training_rows(X, np.column_stack([y, strata]), sample_weight)
        rows, last = replace(rows, y=rows.y[:, :-1]), rows.y[:, -1]
        fold = self._folds(last, generator)
        module = self._start(rows, n_outputs, generator)
        recipe = self._recipe(len(rows))
        self.n_iter_ = train(
            module, self._scaled(rows, module), fold, self._loss, recipe, generator
        )
        self._hold(module.double())
        return rows, fold

    def _one_epoch(self, X: Any, y: Any, sample_weight: Any, n_outputs: int) -> TrainingRows:
        """Train one epoch more, or the first one; return the distinct rows."""
        rows = training_rows(X, y, sample_weight)
        if not hasattr(self, "module_"):
            generator = self._seeded()
            module = self._start(rows, n_outputs, generator)
            self.n_iter_ = 0
        else:
            module = self._own_module()
            for weight in module.parameters():  # the scales stay in float64
                weight.data = weight.data.float()
            generator = torch.Generator().manual_seed(self.seed_ + self.n_iter_)
        recipe = replace(self._recipe(len(rows)), epochs=1, patience=None)
        nowhere = torch.full((len(rows),), -1)
        train(module, self._scaled(rows, module), nowhere, self._loss, recipe, generator)
        self.n_iter_ += 1
        self._hold(module.double())
        return rows

    def _own_module(self) -> Members:
        """Return the members, or refuse to train what was trained elsewhere."""
        if isinstance(self.module_, Members):
            return self.module_
        raise UnsupportedError.of(
            f"{type(self).__name__}.partial_fit",
            "self",
            "hold a network of its own",
            f"a {type(self.module_).__name__} that was trained elsewhere",
            "Train that network in torch",
        )

    def _seeded(self) -> torch.Generator:
        """Draw a seed, keep it for predictions, and return a generator of it."""
        draw = random_numbers(f"{type(self).__name__}.fit", self.random_state)
        self.seed_ = int(draw.randint(2**31 - 1))
        return torch.Generator().manual_seed(self.seed_)

    def _set_scale(self, rows: TrainingRows, module: Members) -> None:
        """Set the units of the outputs."""

    def _scaled(self, rows: TrainingRows, module: Members) -> TrainingRows:
        """Return the rows with targets in the units that the members learn in."""
        return rows

    def _loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the loss of every row, (M, n), of outputs (M, n, K) and targets."""
        raise NotImplementedError

    def _folds(self, strata: Tensor, generator: torch.Generator) -> Tensor:
        """Return which member leaves out each row; -1 where there are too few rows."""
        n_folds = max(2, self.n_members)
        if self.n_members == 1:
            n_folds = max(2, round(1 / self.validation_fraction))
        if len(strata) < _ROWS_PER_FOLD * n_folds:
            return torch.full((len(strata),), -1)
        dealt = folds(strata, n_folds, generator)
        return torch.where(dealt < self.n_members, dealt, -1)

    def _hold(self, module: nn.Module) -> None:
        """Keep a trained module and its sampler; masks are shared, so passes are functions."""
        self.module_ = module
        self.sampler_ = wrap(module, masks="shared")

    def _passes(self, x: Any) -> tuple[RegressionPrediction, Tensor]:
        """Run passes on checked features; every output is a real number.

        Returns:
            Their moments, (N, M, K), and all passes, (S, N, M, K); M is 1 for a module of others.
        """
        check_is_fitted(self, "module_")
        weights = next((p.dtype for p in self.module_.parameters()), torch.float64)
        x = torch.from_numpy(np.array(x, dtype=np.float64)).to(weights)
        own = self.module_ if isinstance(self.module_, Members) else None
        if own is not None and own.p == 0:
            return _without_dropout(own, x)
        n_members = 1 if own is None else own.n_members
        # A network of the caller's may count on the caller's default device.
        with nullcontext() if own is None else torch.device("cpu"):
            found = self.sampler_.predict_with_uncertainty(
                x,
                task="regression",
                n_samples=max(2, math.ceil(self.n_samples / n_members)),
                keep_samples=True,
                seed=self.seed_,
            )
        if own is None:
            found = found._map(
                lambda name, v: v.reshape(*v.shape[: 1 + (name == "samples")], 1, -1)
            )
        samples = found.samples
        if samples is None:
            raise RuntimeError("passes were not kept")
        return found, samples

    @classmethod
    def _from_module(cls, module: nn.Module, options: dict[str, Any]) -> Self:
        """Return an estimator around a trained module."""
        estimator = cls(**options)
        check_options(f"{cls.__name__}.from_module", estimator)
        estimator._seeded()
        estimator._hold(module)
        first = next((m for m in module.modules() if isinstance(m, nn.Linear)), None)
        if first is not None:
            estimator.n_features_in_ = first.in_features
        return estimator


def _without_dropout(module: Members, x: Tensor) -> tuple[RegressionPrediction, Tensor]:
    """Return what the members say when nothing is dropped: one pass of each, an ensemble."""
    with torch.no_grad():
        mean = module(x)
    zero = torch.zeros_like(mean)
    found = RegressionPrediction(
        mean=mean, epistemic_variance=zero, aleatoric_variance=zero, mcse=zero, n_samples=1
    )
    return found, mean.unsqueeze(0)
