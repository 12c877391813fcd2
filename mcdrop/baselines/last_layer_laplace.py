"""A Laplace approximation of the last layer of a trained network, by laplace-torch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mcdrop._twin.copy import structural_copy
from mcdrop.checks import (
    checked_model,
    require_choice,
    require_count,
    require_finite,
    require_fitted,
    require_installed,
    require_seed,
)
from mcdrop.errors import ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.prediction.targets import aligned_targets, numbers, row_index

__all__ = ["LastLayerLaplace"]

# Steps of Adam on the log marginal likelihood, as in the examples of laplace-torch.
_STEPS, _LEARNING_RATE = 200, 0.1


class LastLayerLaplace:
    """A trained network whose last layer gets the posterior of the Laplace approximation.

    The weights of the last linear layer are normal around the trained ones, with the inverse of
    the generalized Gauss-Newton matrix plus the prior precision as covariance; all other weights
    stay as they are. Prior precision and, for regression, the noise maximize the marginal
    likelihood of the training rows. It needs no training and no dropout. Needs
    ``pip install "mcdrop[laplace]"``; beside a CPU build of torch, install torchvision from the
    same index.

    Args:
        model: The trained network, copied and never changed: features of shape (N, ...) in, means
            (N, D) or logits (N, C) out, and an `nn.Linear` as its last layer.
        task: "regression" or "classification".
        n_samples: Draws of the logits for classification.
        batch_size: Rows per forward call.
        random_state: Seed of the draws.

    Source:
        Daxberger et al. (2021), "Laplace Redux"; last layer: Kristiadi et al. (2020).

    Example:
        >>> model = LastLayerLaplace(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
        >>> model.fit(X, y).predict(X_new).epistemic_std  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Literal["regression", "classification"] = "regression",
        n_samples: int = 100,
        batch_size: int = 256,
        random_state: int = 0,
    ) -> None:
        name = "LastLayerLaplace"
        checked_model(model)
        require_choice(name, "task", task, ("regression", "classification"))
        require_count(name, "n_samples", n_samples, 2)
        require_count(name, "batch_size", batch_size)
        require_seed(name, "random_state", random_state)
        self.model = model
        self.task = task
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.random_state = random_state
        self._laplace: Any = None

    def fit(self, X: Any, y: Any) -> LastLayerLaplace:
        """Compute the posterior of the last layer on the rows that the network was trained on.

        Args:
            X: Features, (N, ...): Tensor, ndarray or DataFrame.
            y: Targets shaped like the output, (N,) for (N, 1); or class indices (N,).

        Raises:
            UnsupportedError: If laplace-torch is not installed or cannot be imported, or the
                network does not end in an `nn.Linear`.
            ShapeError: If `y` does not match the output.
            NonFiniteError: If a value is NaN or infinite.
        """
        name = "LastLayerLaplace.fit"
        laplace = _library(name)
        features = self._features(name, X)
        with torch.no_grad():
            output = structural_copy(self.model)(features[:1])
        targets = self._targets(name, y, output.expand(len(features), *output.shape[1:]))
        rows = torch.utils.data.TensorDataset(features, targets)
        loader = torch.utils.data.DataLoader(rows, batch_size=self.batch_size)
        with warnings.catch_warnings():
            # torch deprecates jit.script, which a requirement of laplace-torch calls.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                # It works on a deep copy of the network.
                found = laplace.Laplace(
                    self.model, self.task, subset_of_weights="last_layer", hessian_structure="full"
                )
                found.fit(loader)
            except ValueError as error:
                raise UnsupportedError.of(
                    name,
                    "model",
                    "end in an nn.Linear",
                    str(error).splitlines()[0].rstrip("."),
                    "Use DeepEnsemble, or a network with a linear last layer",
                ) from error
        _maximize_evidence(found, regression=self.task == "regression")
        self._laplace = found
        return self

    def predict(self, X: Any) -> RegressionPrediction | ClassificationPrediction:
        """Predict rows `X` with the linearized network.

        Args:
            X: Features, as in the fit.

        Returns:
            For regression a normal: the variance of the mean is epistemic, the noise aleatoric.
            For classification `n_samples` draws of the logits, each through the softmax.

        Raises:
            UnsupportedError: If `fit` has not run.
            NonFiniteError: If a value is NaN or infinite.
        """
        name = "LastLayerLaplace.predict"
        laplace = require_fitted(name, self._laplace, "X, y")
        batches = self._features(name, X).split(self.batch_size)
        predicted: RegressionPrediction | ClassificationPrediction
        if self.task == "classification":
            draw = torch.Generator(batches[0].device).manual_seed(self.random_state)
            probs = [
                laplace.predictive_samples(x, n_samples=self.n_samples, generator=draw).detach()
                for x in batches
            ]
            predicted = ClassificationPrediction.from_samples(torch.cat(probs, dim=1))
        else:
            moments = [laplace(x) for x in batches]
            mean = torch.cat([part.detach() for part, _ in moments])
            covariance = torch.cat([part.detach() for _, part in moments])
            variance = covariance.diagonal(dim1=1, dim2=2).clamp_min(0)
            noise = laplace.sigma_noise.detach().square()
            predicted = RegressionPrediction.from_mean_std(
                mean, (variance + noise).sqrt(), epistemic_std=variance.sqrt()
            )
        return replace(predicted, index=row_index(X))

    def _features(self, name: str, X: Any) -> Tensor:
        """Return finite features where the network is, in its precision."""
        features = numbers(name, "X", X)
        if features.ndim < 2 or not len(features):
            raise ShapeError.of(
                name, "X", "have shape (N, ...) with at least one row", tuple(features.shape),
                "Pass one row per example",
            )  # fmt: skip
        require_finite(name, axis=0, X=features)
        return features.detach().to(next(self.model.parameters(), features))

    def _targets(self, name: str, y: Any, output: Tensor) -> Tensor:
        """Return targets in the shape and precision of the output, or class indices."""
        if self.task == "regression":
            aligned = aligned_targets(name, y, output)
            require_finite(name, axis=0, y=aligned)
            return aligned.to(output)
        return aligned_targets(name, y, output[:, 0]).to(output.device).long()


def _library(name: str) -> Any:
    """Import laplace-torch; say what is in the way where it is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            require_installed(name, "laplace", "laplace")
        except RuntimeError as error:
            raise UnsupportedError.of(
                name,
                "laplace",
                "be importable",
                str(error).splitlines()[0].rstrip("."),
                "Install torchvision, which it imports, from the index of your torch",
            ) from error
        import laplace
    return laplace


def _maximize_evidence(laplace: Any, *, regression: bool) -> None:
    """Set the prior precision, and the noise of a regression, to maximize the evidence."""
    log_prior = torch.zeros_like(laplace.mean[:1]).requires_grad_()
    log_noise = torch.zeros_like(laplace.mean[:1]).requires_grad_()
    adam = torch.optim.Adam([log_prior, log_noise], lr=_LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            adam.zero_grad()
            noise = log_noise.exp() if regression else None
            (-laplace.log_marginal_likelihood(log_prior.exp(), noise)).backward()
            adam.step()
    laplace.prior_precision = log_prior.detach().exp()
    if regression:
        laplace.sigma_noise = log_noise.detach().exp()
