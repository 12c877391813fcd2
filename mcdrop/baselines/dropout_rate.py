"""The dropout rate of a trained network, chosen by the likelihood of held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from mcdrop._tasks.settings import Options
from mcdrop.baselines.candidates import checked_open_rates
from mcdrop.checks import require_choice, require_unit
from mcdrop.errors import RangeError
from mcdrop.metrics import Estimate, mean_difference, mean_interval
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction, fit_noise_std
from mcdrop.prediction.base import Prediction
from mcdrop.wrapper import wrap

__all__ = ["RateChoice", "RateScore", "tune_dropout_rate"]

FUNCTION = "tune_dropout_rate"
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
_TASKS = ("regression", "heteroscedastic", "classification", "binary", "multilabel")
RateTask = Literal["regression", "heteroscedastic", "classification", "binary", "multilabel"]


@dataclass(frozen=True)
class RateScore:
    """One rate on the held-out rows.

    Attributes:
        p: Dropout rate of all sites.
        nll: Mean negative log-likelihood of the rows with its interval, nats.
        above_best: Paired difference to the rate with the lowest `nll`.
        noise_std: The most likely noise of a "regression" at this rate, one per output, else None.
    """

    p: float
    nll: Estimate
    above_best: Estimate
    noise_std: Tensor | None


@dataclass(frozen=True)
class RateChoice:
    """Dropout rates with their scores.

    Attributes:
        best: The rate with the lowest mean NLL.
        scores: Every rate that was tried, in the order given.
    """

    best: RateScore
    scores: tuple[RateScore, ...]

    @property
    def p(self) -> float:
        """The rate with the lowest mean NLL: pass it on as ``wrap(model, p=...)``."""
        return self.best.p

    @property
    def noise_std(self) -> Tensor | None:
        """The noise that suits this rate: pass it on as ``noise_std=``."""
        return self.best.noise_std

    @property
    def undecided(self) -> tuple[float, ...]:
        """Rates that the rows cannot tell from the best: their paired interval reaches 0."""
        return tuple(score.p for score in self.scores if score.above_best.low <= 0)


def tune_dropout_rate(
    model: nn.Module | torch.export.ExportedProgram,
    X: Any,
    y: Any,
    *,
    task: RateTask,
    p: float | Sequence[float] = _RATES,
    level: float = 0.95,
    **options: Unpack[Options],
) -> RateChoice:
    """Choose the dropout rate in prediction by held-out likelihood, without retraining.

    Each rate takes the place of the model's own in all dropout sites, and is scored by the
    predictive likelihood of the passes; a regression gets the noise that suits the rate best.
    Every rate sees the same seed. The weights stay those that were trained at the model's own
    rate: far from it the mean function suffers. To train anew at each rate, see
    `mcdrop.baselines.DropoutNetwork`, which trains all rates at once.

    Args:
        model: As for `mcdrop.wrap`.
        X: Inputs that the model was not trained on, as for `predict_with_uncertainty`.
        y: Their targets.
        task: As for `predict_with_uncertainty`.
        p: Dropout rates to try, each in (0, 1).
        level: Coverage of the intervals.
        **options: Further options of `predict_with_uncertainty`, such as ``n_samples=`` (at least
            100 is advisable), ``output_type=`` and ``seed=`` (0 if left out); not ``noise_std``,
            which is chosen here.

    Returns:
        The best rate with its noise, all scores, and the rates that cannot be told from it.

    Raises:
        RangeError: If a rate lies outside (0, 1), or `noise_std` is given.
        NoDropoutError: If the model has no dropout.
        ShapeError: If `y` does not match the output.

    Source:
        Gal & Ghahramani (2016) choose the rate by held-out likelihood, with retraining.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 1))
        >>> X = torch.randn(50, 2)
        >>> found = tune_dropout_rate(net, X, net.eval()(X), task="regression", p=[0.05, 0.5])
        >>> found.p  # the targets are the network's own outputs
        0.05
    """
    require_choice(FUNCTION, "task", task, _TASKS)
    require_unit(FUNCTION, "level", level)
    checked = checked_open_rates(FUNCTION, p)
    if options.get("noise_std") is not None:
        raise RangeError.of(
            FUNCTION,
            "noise_std",
            "be left out, as it is chosen with the rate",
            "a value",
            "Remove it",
        )
    options["keep_samples"], options["seed"] = True, options.get("seed") or 0
    tried = [_tried(model, X, y, task, rate, options) for rate in checked]
    best = min(range(len(tried)), key=lambda i: float(tried[i][0].mean()))
    scores = tuple(
        RateScore(
            rate,
            mean_interval(losses, level=level),
            mean_difference(losses, tried[best][0], level=level),
            noise,
        )
        for rate, (losses, noise) in zip(checked, tried, strict=True)
    )
    return RateChoice(scores[best], scores)


def _tried(
    model: nn.Module | torch.export.ExportedProgram,
    X: Any,
    y: Any,
    task: RateTask,
    rate: float,
    options: Options,
) -> tuple[Tensor, Tensor | None]:
    """Return the loss of each row at one rate, (N,), and the noise of a regression."""
    # The overloads take the tasks of one kind of prediction each.
    predict: Callable[..., Prediction] = wrap(model, p=rate).predict_with_uncertainty
    prediction = predict(X, task=task, **options)
    if isinstance(prediction, ClassificationPrediction):
        return _by_row(-prediction.log_prob(y)), None
    if not isinstance(prediction, RegressionPrediction):
        raise TypeError(type(prediction).__name__)
    if task == "heteroscedastic":
        return _by_row(-prediction.log_prob(y)), None
    noise = fit_noise_std(prediction, y)
    noisy = RegressionPrediction.from_samples(prediction.samples, noise_std=noise)
    return _by_row(-noisy.log_prob(y)), noise


def _by_row(losses: Tensor) -> Tensor:
    return losses.detach().double().cpu().reshape(len(losses), -1).mean(dim=1)
