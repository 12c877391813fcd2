"""A scikit-learn regressor with the uncertainty of Monte Carlo dropout and of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import RegressorMixin
from torch import Tensor, nn
from typing_extensions import Self

from mcdrop._modes import training_modes
from mcdrop.checks import checked_noise, require_count
from mcdrop.errors import ShapeError
from mcdrop.estimators.base import MCDropoutEstimator
from mcdrop.estimators.network import Members
from mcdrop.estimators.options import check_options, random_numbers
from mcdrop.estimators.rows import TrainingRows, rounded
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.targets import row_index

__all__ = ["MCDropoutRegressor"]

Float64 = npt.NDArray[np.float64]

# Of the standard deviation of y: below it, a density of a table of finite precision says nothing.
_LEAST_NOISE = 1e-3


class MCDropoutRegressor(RegressorMixin, MCDropoutEstimator):  # type: ignore[misc]
    """Multilayer perceptrons with dropout, trained together, that predict a distribution.

    Every member is trained without one fold of the rows, on which its best epoch is chosen; its
    errors there, of rows it has not seen, set the observation noise. Equal rows are merged, so a
    weight of k means the same as k copies, to the last bit, and the order of rows does not matter.
    Passes share their masks between rows: each is one function.

    Args:
        hidden_layer_sizes: Units of every hidden layer.
        p: Dropout rate after every hidden layer, in [0, 1); 0 makes a plain ensemble.
        n_members: Networks trained together; 1 for a single one.
        n_samples: Passes of a prediction, shared out among members.
        heteroscedastic: Predict the noise of every row, rather than one for all.
        activation: "relu", "silu" or "tanh".
        learning_rate: Largest learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: Rows per step and member; "auto" for N / 16 between 16 and 256.
        max_epochs: Walks over the rows; "auto" for about 2000 steps.
        early_stopping: Keep each member at its best epoch on its fold.
        validation_fraction: Share of rows held out where there is one member; with more, each
            leaves out 1 / n_members.
        patience: Epochs without improvement of any member before training stops.
        random_state: Seed, RandomState or None.

    Attributes:
        module_: The trained members, a `torch.nn.Module` from (N, D) to (N, M, K) in raw units.
        noise_std_: Standard deviation of the observation noise, (K,), units of y; None if it is
            predicted.
        n_features_in_: Number of features seen by `fit`.
        feature_names_in_: Their names, if all are strings.
        n_iter_: Epochs run.

    Source:
        Gal & Ghahramani (2016); ensembles: Lakshminarayanan et al. (2017); weight of the
        heteroscedastic loss: Seitzer et al. (2022).

    Example:
        >>> X = np.linspace(-2, 2, 80).reshape(-1, 1)
        >>> y = np.sin(2 * X[:, 0])
        >>> model = MCDropoutRegressor((20,), n_members=2, max_epochs=100, random_state=0)
        >>> mean, std = model.fit(X, y).predict(X, return_std=True)
        >>> mean.shape, bool((std > 0).all()), model.score(X, y) > 0.8
        ((80,), True, True)
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64, 64),
        p: float = 0.05,
        n_members: int = 5,
        n_samples: int = 100,
        *,
        heteroscedastic: bool = False,
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
        super().__init__(
            hidden_layer_sizes,
            p,
            n_members,
            n_samples,
            activation=activation,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
        )
        self.heteroscedastic = heteroscedastic

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that several targets are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @training_modes()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the members.

        Args:
            X: Features, (N, D).
            y: Targets, (N,) or (N, K).
            sample_weight: Weights, (N,): a row of weight k counts as k rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the rows are not finite numbers, or do not match.
            RangeError: If an option lies outside its range.
        """
        check_options(f"{type(self).__name__}.fit", self)
        X, y = self._validated(
            X, y, reset=True, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        weight = self._weights(sample_weight, X)
        self._is_flat, self._predicts_noise = y.ndim == 1, self.heteroscedastic
        targets = y.reshape(len(y), -1).astype(np.float64)
        n_targets = targets.shape[1]
        n_outputs = n_targets * (2 if self.heteroscedastic else 1)
        strata = np.zeros(len(y))
        rows, fold = self._train(X, targets, weight, strata, n_outputs)
        self._n_targets = n_targets
        self.noise_std_: Any = None
        if not self.heteroscedastic:
            self.noise_std_ = self._fitted_noise(rows, fold)
        return self

    @training_modes()
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch more; the first call is a `fit` of one epoch, which sets the scales.

        Args:
            X: Features, (N, D).
            y: Targets, (N,) or (N, K).
            sample_weight: Weights, (N,).

        Returns:
            The estimator itself. The noise is that of the rows of the last call.
        """
        check_options(f"{type(self).__name__}.partial_fit", self)
        first = not hasattr(self, "module_")
        if not first:
            self._own_module()
        X, y = self._validated(
            X, y, reset=first, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        weight = self._weights(sample_weight, X)
        targets = y.reshape(len(y), -1).astype(np.float64)
        if first:
            self._is_flat, self._n_targets = y.ndim == 1, targets.shape[1]
            self._predicts_noise = self.heteroscedastic
        elif targets.shape[1] != self._n_targets:
            raise ShapeError.of(
                f"{type(self).__name__}.partial_fit",
                "y",
                f"have the {self._n_targets} target(s) of the first call",
                f"{targets.shape[1]} target(s)",
                "Start a new estimator for other targets",
            )
        n_outputs = self._n_targets * (2 if self._predicts_noise else 1)
        rows = self._one_epoch(X, targets, weight, n_outputs)
        self.noise_std_ = None
        if not self._predicts_noise:
            self.noise_std_ = self._fitted_noise(rows, torch.full((len(rows),), -1))
        return self

    @classmethod
    def from_module(
        cls, module: nn.Module, *, noise_std: float | Tensor | None = None, **options: Any
    ) -> Self:
        """Make a fitted estimator of a network that is trained already.

        Args:
            module: From features (N, D) in the type of its weights to means (N,) or (N, K); or,
                with ``heteroscedastic=True``, to means and logarithms of variances, (N, 2 K).
            noise_std: Standard deviation of the observation noise, units of y; None for zero.
            **options: Parameters of the estimator, such as `n_samples`.

        Returns:
            A fitted estimator. `fit` and `clone` start from the estimator's own network.

        Example:
            >>> net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
            >>> model = MCDropoutRegressor.from_module(net, noise_std=0.1, random_state=0)
            >>> model.predict(np.zeros((2, 3))).shape
            (2,)
        """
        estimator = cls._from_module(module, options)
        noise = checked_noise(f"{cls.__name__}.from_module", noise_std)
        estimator.noise_std_ = None if noise is None else noise.reshape(-1).numpy()
        estimator._is_flat, estimator._predicts_noise = True, estimator.heteroscedastic
        estimator._n_targets = None
        return estimator

    def predict_with_uncertainty(self, X: Any) -> RegressionPrediction:
        """Predict with every pass of every member, for metrics, reports and recalibration.

        Args:
            X: Features, (N, D).

        Returns:
            A prediction of shape (N, K): the mixture of all passes. Its epistemic variance is the
            mean variance over passes plus the variance between members. Rows carry the index of a
            DataFrame.
        """
        passes, samples = self._passes(self._validated(X, reset=False))
        mean, variance, mcse = passes.mean, passes.epistemic_variance, passes.mcse
        # Passes of one member after those of another: (S, N, M, K) becomes (M S, N, K).
        samples = samples.permute(2, 0, 1, 3).flatten(0, 1)
        noise, noises = torch.zeros_like(mean[:, 0]), None
        if self._predicts_noise:
            n = mean.shape[-1] // 2
            mean, variance, mcse = mean[..., :n], variance[..., :n], mcse[..., :n]
            samples, noises = samples[..., :n], samples[..., n:].exp()
            noise = noises.mean(dim=0)
        elif self.noise_std_ is not None:
            noise = torch.from_numpy(self.noise_std_**2).to(mean).expand_as(mean[:, 0])
        return RegressionPrediction(
            mean=mean.mean(dim=1),
            epistemic_variance=variance.mean(dim=1) + mean.var(dim=1, correction=0),
            aleatoric_variance=noise,
            mcse=mcse.square().sum(dim=1).sqrt() / mean.shape[1],
            n_samples=len(samples),
            samples=samples,
            sample_variances=noises,
            run=passes.run,
            index=row_index(X),
        )

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> Float64: ...

    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[Float64, Float64]: ...

    def predict(self, X: Any, return_std: bool = False) -> Float64 | tuple[Float64, Float64]:
        """Predict the mean, and the standard deviation of y around it if asked for.

        Args:
            X: Features, (N, D).
            return_std: Also return the standard deviation: spread of the passes and noise.

        Returns:
            Mean, (N,) or (N, K) as the targets of the fit; or mean and standard deviation.
        """
        prediction = self.predict_with_uncertainty(X)
        mean = self._shaped(prediction.mean)
        return (mean, self._shaped(prediction.std)) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[Float64, Float64]:
        """Predict the central interval that holds y with probability `level`.

        Args:
            X: Features, (N, D).
            level: Probability inside, in (0, 1).

        Returns:
            Lower and upper ends, each shaped like the targets; of the mixture over passes.
        """
        lower, upper = self.predict_with_uncertainty(X).interval(level)
        return self._shaped(lower), self._shaped(upper)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Float64:
        """Draw targets from the predictive distribution; a draw is one function plus noise.

        Args:
            X: Features, (N, D).
            n_samples: Number of draws, S.
            random_state: Seed, RandomState or None.

        Returns:
            Draws, (N, S) or (N, K, S), as in scikit-learn's `GaussianProcessRegressor`.
        """
        require_count(f"{type(self).__name__}.sample_y", "n_samples", n_samples)
        rng = random_numbers(f"{type(self).__name__}.sample_y", random_state)
        prediction = self.predict_with_uncertainty(X)
        samples = prediction.samples
        if samples is None:
            raise RuntimeError("sample_y: passes were not kept")
        chosen = torch.from_numpy(rng.randint(len(samples), size=n_samples))
        variances = prediction.sample_variances
        spread = prediction.aleatoric_variance if variances is None else variances[chosen]
        noise = torch.from_numpy(rng.standard_normal((n_samples, *samples.shape[1:])))
        draws = samples[chosen].double() + noise * spread.double().sqrt()
        drawn = draws.movedim(0, -1).numpy()
        return drawn[:, 0] if self._is_flat and drawn.shape[1] == 1 else drawn

    def _set_scale(self, rows: TrainingRows, module: Members) -> None:
        mean, std = rounded(*rows.scale(rows.y))
        if self._predicts_noise:
            mean = torch.cat([mean, 2 * std.float().log().double()])
            std = torch.cat([std, torch.ones_like(std)])
        module.y_mean, module.y_std = mean, std

    def _scaled(self, rows: TrainingRows, module: Members) -> TrainingRows:
        n = rows.y.shape[1]
        mean, std = module.y_mean[:n].double(), module.y_std[:n].double()
        return replace(rows, y=((rows.y - mean) / std).float())

    def _loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Squared error, or the beta-weighted likelihood with beta = 1/2, (M, n)."""
        if not self._predicts_noise:
            return (out - y).square().mean(dim=-1)
        mean, log_variance = out.chunk(2, dim=-1)
        # Beyond a factor of e^8 either way, squares would overflow before they are learned.
        log_variance = log_variance.clamp(-8, 8)
        losses = 0.5 * (log_variance + (mean - y).square() * (-log_variance).exp())
        if losses.requires_grad:
            losses = losses * (0.5 * log_variance).exp().detach()
        return losses.mean(dim=-1)

    def _fitted_noise(self, rows: TrainingRows, fold: Tensor) -> Float64:
        """Return the noise that makes errors of unseen rows most likely, (K,), units of y."""
        passes, _ = self._passes(rows.x.numpy())
        mean, variance = passes.mean, passes.epistemic_variance
        if bool((fold >= 0).any()):
            tested = fold >= 0
            pick = (torch.arange(len(rows))[tested], fold[tested])
            mean, variance = mean[pick], variance[pick]
            y, weight = rows.y[tested], rows.weight[tested]
        else:
            mean, variance = mean.mean(dim=1), variance.mean(dim=1)
            y, weight = rows.y, rows.weight
        squares, scale = (y - mean).square(), rows.scale(rows.y)[1]
        found = [
            _likeliest(squares[:, k] / scale[k] ** 2, variance[:, k] / scale[k] ** 2, weight)
            for k in range(y.shape[1])
        ]
        return np.asarray(found) * scale.numpy()

    def _shaped(self, values: Tensor) -> Float64:
        out = values.detach().cpu().double().numpy()
        return out[:, 0] if self._is_flat and out.shape[1] == 1 else out


def _likeliest(squares: Tensor, variance: Tensor, weight: Tensor) -> float:
    """Return the std s that maximizes the likelihood of errors of variance + s^2."""

    def cost(log_std: float) -> float:
        total = variance + float(np.exp(2 * log_std))
        return float((weight * (total.log() + squares / total)).sum())

    bounds = (np.log(_LEAST_NOISE), 3.0)
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x))
