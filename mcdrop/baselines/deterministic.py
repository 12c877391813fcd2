"""The same network with its dropout off: what Monte Carlo dropout has to beat."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from mcdrop._engine.inputs import InputReader
from mcdrop._engine.outputs import Select, check_rows_finite, select_tensor
from mcdrop._tasks.likelihoods import OutputType, class_probabilities
from mcdrop._twin.copy import structural_copy
from mcdrop.errors import RangeError, UnsupportedError
from mcdrop.prediction.classification import ClassificationPrediction, entropy
from mcdrop.prediction.regression import RegressionPrediction

__all__ = ["Deterministic"]


class Deterministic:
    """A trained network in eval mode behind the prediction types; it is only read.

    For regression the predictive distribution is normal around the output, with the noise that
    `fit` estimates; for classification it is the output itself. It never has epistemic
    uncertainty.

    Args:
        model: The trained network.
        task: "regression", "classification" or "binary".
        output_type: For classification: "logits", "probs" or "log_probs".
        select: Which tensor of the output is the prediction, if the model returns several.
        batch_size: Rows per forward call; None passes the inputs on whole.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> X, y = torch.ones(4, 2), net(torch.ones(4, 2)).detach() + 2.0
        >>> round(Deterministic(net).fit(X, y).predict(X).std[0].item(), 4)
        2.0
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Literal["regression", "classification", "binary"] = "regression",
        output_type: OutputType = "logits",
        select: Select = None,
        batch_size: int | None = None,
    ) -> None:
        if task not in ("regression", "classification", "binary"):
            raise RangeError.of(
                "Deterministic",
                "task",
                "be 'regression', 'classification' or 'binary'",
                repr(task),
                "Choose one of these",
            )
        self.model = model
        self.task = task
        self.output_type = output_type
        self.select = select
        self.batch_size = batch_size
        self._noise_variance: Tensor | None = None

    def fit(self, X: Any, y: Any) -> Deterministic:
        """Estimate the noise of a regression: the mean squared error on these rows.

        Args:
            X: Inputs that the network was not trained on, as for `predict`.
            y: Their targets, shaped like the output; (N,) may stand for (N, 1).

        Returns:
            The baseline itself. For classification there is nothing to fit.

        Raises:
            ShapeError: If `y` does not match the output.
        """
        if self.task == "regression":
            output = self._forward("Deterministic.fit", X).double()
            bare = _regression(output, torch.zeros_like(output))
            target = bare._aligned_target("fit", y, output.shape).double()
            self._noise_variance = (output - target).square().mean(dim=0)
        return self

    def predict(self, X: Any) -> RegressionPrediction | ClassificationPrediction:
        """Predict with dropout off.

        Args:
            X: Whatever `predict_with_uncertainty` takes.

        Returns:
            A prediction with zero epistemic uncertainty and ``n_samples=0``.

        Raises:
            UnsupportedError: If a regression has not been fitted, so that its noise is unknown.
            OutputError: If the output is not what `select` and `output_type` say.
        """
        name = "Deterministic.predict"
        if self.task == "regression" and self._noise_variance is None:
            raise UnsupportedError.of(
                name, "self", "be fitted", "no noise estimate", "Call fit(X, y) on held-out rows"
            )
        output = self._forward(name, X)
        if self._noise_variance is not None:
            noise = self._noise_variance.to(output.dtype)
            return _regression(output, noise.expand_as(output).clone())
        wide = output.double().unsqueeze(0)
        probs = class_probabilities(name, wide, self.output_type, binary=self.task == "binary")[0]
        probs = probs.to(output.dtype if output.dtype == torch.float64 else torch.float32)
        return ClassificationPrediction(
            probs=probs,
            probs_std=torch.zeros_like(probs),
            expected_entropy=entropy(probs),
            variation_ratio=torch.zeros_like(probs[:, 0]),
            mcse=torch.zeros_like(probs),
            n_samples=0,
        )

    def _forward(self, function: str, X: Any) -> Tensor:
        """Run the plain network over all batches."""
        twin = structural_copy(self.model)
        tensors = (*self.model.parameters(), *self.model.buffers())
        device = tensors[0].device if tensors else torch.device("cpu")
        reader = InputReader(function, self.model, device, None, self.batch_size)
        with torch.no_grad():
            outputs = [
                select_tensor(function, twin(*batch.args, **batch.kwargs), self.select)
                for batch in reader.batches(X)
            ]
        whole = torch.cat(outputs)
        check_rows_finite(function, whole, 0)
        return whole


def _regression(mean: Tensor, noise_variance: Tensor) -> RegressionPrediction:
    """Make a normal prediction without epistemic variance."""
    return RegressionPrediction(
        mean=mean,
        epistemic_variance=torch.zeros_like(mean),
        aleatoric_variance=noise_variance,
        mcse=torch.zeros_like(mean),
        n_samples=0,
        family="normal",
    )
