"""From trained networks to predictions: plain forward calls, or passes with dropout alive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcdrop._tasks.settings import Options
from mcdrop.baselines.fitting import AnyPrediction, Fitted, NetworkTask
from mcdrop.metrics._arrays import tensor_of
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.wrapper import wrap

__all__ = ["dropout_predictions", "plain_predictions"]


def plain_predictions(task: NetworkTask, fitted: Fitted, X: Tensor) -> AnyPrediction:
    """Predict with dropout off: one network, or the mixture of several."""
    with torch.no_grad():
        outputs = [network(X) for network in fitted.networks]
    if task == "classification":
        probs = torch.stack(outputs).softmax(dim=-1)
        if len(probs) == 1:
            return ClassificationPrediction.from_probs(probs[0])
        return ClassificationPrediction.from_samples(probs)
    shape = (len(outputs), len(X), *fitted.target_shape)
    noise: Any = 0.0 if fitted.noise_std is None else fitted.noise_std
    if task == "heteroscedastic":
        noise = torch.stack([(log / 2).exp() for _, log in outputs]).reshape(shape)
        outputs = [mean for mean, _ in outputs]
    means = torch.stack(outputs).reshape(shape)
    if len(means) == 1:
        std = noise[0] if task == "heteroscedastic" else tensor_of(noise)
        return RegressionPrediction.from_mean_std(means[0], std.expand_as(means[0]))
    return RegressionPrediction.from_samples(means, noise_std=noise)


def dropout_predictions(
    task: NetworkTask, fitted: Fitted, X: Tensor, n_samples: int, seed: int
) -> AnyPrediction:
    """Predict with dropout alive: the mixture over all passes of all networks."""
    several = [
        _passes(task, fitted, network, X, n_samples, seed + index)
        for index, network in enumerate(fitted.networks)
    ]
    if len(several) == 1:
        return several[0]
    # keep_samples=True keeps them in every one of these.
    samples = torch.cat([p.samples for p in several if p.samples is not None])
    if task == "classification":
        return ClassificationPrediction.from_samples(samples)
    if task == "regression":
        return RegressionPrediction.from_samples(samples, noise_std=fitted.noise_std)
    stds = [
        p.sample_variances.sqrt()
        for p in several
        if isinstance(p, RegressionPrediction) and p.sample_variances is not None
    ]
    return RegressionPrediction.from_samples(samples, noise_std=torch.cat(stds))


def _passes(
    task: NetworkTask, fitted: Fitted, network: nn.Module, X: Tensor, n_samples: int, seed: int
) -> AnyPrediction:
    """Predict with one network, in the shape of the targets."""
    mc = wrap(network)
    options = Options(n_samples=n_samples, keep_samples=True, seed=seed)
    if task == "classification":
        return mc.predict_with_uncertainty(X, task=task, **options)
    if task == "heteroscedastic":
        options["output_type"] = "log_variance"
        found = mc.predict_with_uncertainty(X, task=task, **options)
    else:
        options["noise_std"] = fitted.noise_std
        found = mc.predict_with_uncertainty(X, task=task, **options)
    if fitted.target_shape:
        return found
    return found._map(lambda _, values: values.squeeze(-1))
