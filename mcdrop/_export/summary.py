"""What an exported program returns: the numbers of a prediction, as plain tensor arithmetic.

The variance over passes is a quadratic form of the passes, with constant coefficients that depend
on their number and on the strata alone. They are read off the estimator that predictions use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop._engine.groups import PassGroups, Rates
from mcdrop._engine.moments import Moments
from mcdrop._tasks.likelihoods import OutputType

__all__ = ["ClassSummary", "RegressionSummary", "Spread", "Summary", "entropy", "variance_form"]


def variance_form(n_samples: int, *, stratified: bool, rates: Rates = ()) -> Tensor:
    """Return Q such that the estimated variance of passes x is ``x' Q x``, (S, S).

    Args:
        n_samples: Number of passes, S.
        stratified: Whether they are stratified.
        rates: Dropout rate of every site; empty if unknown.
    """
    first, second = torch.triu_indices(n_samples, n_samples, offset=1)
    groups = PassGroups(n_samples, stratified=stratified, rates=rates)
    single = _variances(torch.eye(n_samples, dtype=torch.float64), Moments(groups))
    pairs = torch.zeros(n_samples, len(first), dtype=torch.float64)
    columns = torch.arange(len(first))
    pairs[first, columns] = pairs[second, columns] = 1
    both = _variances(pairs, Moments(groups))
    form = torch.diag(single)
    # By polarization: v(x + y) = v(x) + v(y) + 2 x' Q y.
    form[first, second] = form[second, first] = (both - single[first] - single[second]) / 2
    return form


def _variances(passes: Tensor, moments: Moments) -> Tensor:
    moments.update(passes)
    return moments.variance


class Spread(nn.Module):
    """The variance over passes.

    Args:
        n_samples: Number of passes, S.
        stratified: Whether they are stratified.
    """

    form: Tensor

    def __init__(self, n_samples: int, *, stratified: bool) -> None:
        super().__init__()
        self._n_samples, self._stratified = n_samples, stratified
        form = variance_form(n_samples, stratified=stratified)
        self.register_buffer("form", form.float())

    def know(self, rates: Rates) -> None:
        """Take the dropout rates of all sites into account."""
        form = variance_form(self._n_samples, stratified=self._stratified, rates=rates)
        self.form = form.float()

    def forward(self, passes: Tensor) -> Tensor:
        """Return the variance of (S, n, ...), (n, ...)."""
        # Constants have no variance; without the mean less is lost to rounding.
        centered = passes - passes.mean(dim=0)
        weighted = (self.form.to(passes) @ centered.flatten(1)).view_as(centered)
        return (weighted * centered).sum(dim=0).clamp_min(0)


class Summary(nn.Module):
    """Turns passes, (S, n, ...), into named tensors.

    Attributes:
        names: The names, in order.
    """

    names: tuple[str, ...] = ()


class RegressionSummary(Summary):
    """Mean and predictive standard deviation.

    Args:
        n_samples: Number of passes.
        stratified: Whether they are stratified.
        noise_std: Standard deviation of the observation noise, or None.
        spread: Kind of the second output of a heteroscedastic pair, or None.
    """

    names = ("mean", "std", "epistemic_std")
    noise_variance: Tensor | None

    def __init__(
        self,
        n_samples: int,
        *,
        stratified: bool,
        noise_std: Tensor | None = None,
        spread: OutputType | None = None,
    ) -> None:
        super().__init__()
        self.variance = Spread(n_samples, stratified=stratified)
        self.spread = spread
        known = None if noise_std is None else noise_std.square()
        self.register_buffer("noise_variance", known)

    def forward(self, passes: Tensor) -> dict[str, Tensor]:
        """Summarize (S, n, ...), or (S, n, ..., 2) for a heteroscedastic pair."""
        noise: Tensor | float = 0.0
        if self.spread is not None:
            passes, second = passes.unbind(dim=-1)
            noise = (second.exp() if self.spread == "log_variance" else second).mean(dim=0)
        elif self.noise_variance is not None:
            noise = self.noise_variance.to(passes)
        variance = self.variance(passes)
        return {
            "mean": passes.mean(dim=0),
            "std": (variance + noise).sqrt(),
            "epistemic_std": variance.sqrt(),
        }


class ClassSummary(Summary):
    """Class probabilities, their standard deviation, entropy and mutual information.

    Args:
        n_samples: Number of passes.
        stratified: Whether they are stratified.
        output_type: What the model returns.
        binary: Whether every score stands for class 1 of two.
        multilabel: Whether there are several such scores per row.
        temperature: Divides the log-probabilities of every pass.
    """

    names = ("probs", "probs_std", "predictive_entropy", "mutual_information")

    def __init__(
        self,
        n_samples: int,
        *,
        stratified: bool,
        output_type: OutputType,
        binary: bool,
        multilabel: bool,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.variance = Spread(n_samples, stratified=stratified)
        self.output_type = output_type
        self.binary, self.multilabel, self.temperature = binary, multilabel, temperature

    def forward(self, passes: Tensor) -> dict[str, Tensor]:
        """Summarize (S, n, C, ...), or scores of class 1, (S, n), (S, n, 1) or (S, n, L)."""
        probs = self._probabilities(passes)
        if self.temperature != 1.0:
            probs = (probs.log() / self.temperature).softmax(dim=2)
        mean = probs.mean(dim=0)
        total = entropy(mean, dim=1)
        expected = entropy(probs, dim=2).mean(dim=0)
        return {
            "probs": mean,
            "probs_std": self.variance(probs).sqrt(),
            "predictive_entropy": total,
            "mutual_information": (total - expected).clamp_min(0),
        }

    def _probabilities(self, values: Tensor) -> Tensor:
        if self.binary and not self.multilabel and values.ndim == 3:
            values = values.squeeze(2)
        if self.output_type == "logits":
            if not self.binary:
                return values.softmax(dim=2)
            return torch.stack([(-values).sigmoid(), values.sigmoid()], dim=2)
        positive = values.exp() if self.output_type == "log_probs" else values
        return torch.stack([1 - positive, positive], dim=2) if self.binary else positive


def entropy(probs: Tensor, dim: int) -> Tensor:
    """Return the entropy in nats; 0 log 0 is 0."""
    tiny = torch.finfo(probs.dtype).tiny
    return -(probs * probs.clamp_min(tiny).log()).sum(dim=dim)
