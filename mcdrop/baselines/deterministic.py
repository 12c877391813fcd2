"""The same network with its dropout off: what Monte Carlo dropout has to beat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mcdrop._engine.inputs import InputReader
from mcdrop._engine.outputs import Select, Selection, check_rows_finite
from mcdrop._tasks.likelihoods import OutputType, class_probabilities, mean_and_variance
from mcdrop._tasks.settings import ClassificationTask, RegressionTask, Task
from mcdrop._twin.copy import structural_copy
from mcdrop.checks import require_choice, require_count
from mcdrop.errors import UnsupportedError
from mcdrop.prediction.classification import ClassificationPrediction, entropy
from mcdrop.prediction.regression import RegressionPrediction
from mcdrop.prediction.targets import aligned_targets, row_index

__all__ = ["Deterministic"]

_TASKS = (*get_args(RegressionTask), *get_args(ClassificationTask))
_SCORES = ("logits", "probs", "log_probs")
_SPREADS = ("log_variance", "variance")


class Deterministic:
    """A trained network in eval mode behind the prediction types; it is only read.

    For regression the predictive distribution is normal around the output, with the noise that
    `fit` estimates, or with the noise that a heteroscedastic network predicts itself; for
    classification it is the output itself. It never has epistemic uncertainty.

    Args:
        model: The trained network.
        task: "regression", "heteroscedastic" (the model returns a mean and a variance for each
            target), "classification", "binary" (one score per row for class 1) or "multilabel"
            (one such score for each of L labels).
        output_type: For classification "logits", "probs" or "log_probs"; for "heteroscedastic",
            where the second output is meant, "log_variance" or "variance". A "regression" takes
            the output as it is; leave it out.
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
        task: Task = "regression",
        output_type: OutputType = "logits",
        select: Select = None,
        batch_size: int | None = None,
    ) -> None:
        _require_module(model)
        require_choice("Deterministic", "task", task, _TASKS)
        kinds = {"regression": ("logits",), "heteroscedastic": _SPREADS}.get(task, _SCORES)
        require_choice("Deterministic", "output_type", output_type, kinds)
        if batch_size is not None:
            require_count("Deterministic", "batch_size", batch_size)
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
            The baseline itself. The other tasks have nothing to fit.

        Raises:
            ShapeError: If `y` does not match the output.
        """
        if self.task == "regression":
            output = self._forward("Deterministic.fit", X).double()
            target = aligned_targets("Deterministic.fit", y, output)
            self._noise_variance = (output - target).square().mean(dim=0)
        return self

    def predict(self, X: Any) -> RegressionPrediction | ClassificationPrediction:
        """Predict with dropout off.

        Args:
            X: Whatever `predict_with_uncertainty` takes.

        Returns:
            A prediction with zero epistemic uncertainty and ``n_samples=0``.

        Raises:
            UnsupportedError: If a "regression" has not been fitted, so that its noise is unknown.
            OutputError: If the output is not what `select` and `output_type` say.
        """
        name = "Deterministic.predict"
        if self.task == "regression" and self._noise_variance is None:
            raise UnsupportedError.of(
                name, "self", "be fitted", "no noise estimate", "Call fit(X, y) on held-out rows"
            )
        predicted = self._predicted(name, self._forward(name, X))
        index = row_index(X)
        return predicted if index is None else replace(predicted, index=index)

    def _predicted(
        self, name: str, output: Tensor
    ) -> RegressionPrediction | ClassificationPrediction:
        """Return what the output of the network says, for the public function `name`."""
        if self._noise_variance is not None:
            noise = self._noise_variance.to(output.dtype)
            return _regression(output, noise.expand_as(output).clone())
        wide = output.double()
        dtype = output.dtype if output.dtype == torch.float64 else torch.float32
        if self.task == "heteroscedastic":
            mean, variance = mean_and_variance(name, wide, self.output_type)
            return _regression(mean.to(dtype), variance.to(dtype))
        binary, several = self.task == "binary", self.task == "multilabel"
        # The functions for passes see one pass.
        probs = class_probabilities(
            name, wide.unsqueeze(0), self.output_type, binary=binary or several, multilabel=several
        )[0].to(dtype)
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
        selection = Selection(self.select, is_pair=self.task == "heteroscedastic")
        with torch.no_grad():
            outputs = [
                selection.pick(function, twin(*batch.args, **batch.kwargs))
                for batch in reader.batches(X)
            ]
        whole = torch.cat(outputs)
        check_rows_finite(function, whole, 0)
        return whole


def _require_module(model: object) -> None:
    """Refuse what is no network."""
    if not isinstance(model, nn.Module):
        found, remedy = type(model).__name__, "Pass the trained network itself"
        raise UnsupportedError.of("Deterministic", "model", "be a torch.nn.Module", found, remedy)


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
