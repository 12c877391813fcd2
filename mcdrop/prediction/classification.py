"""The result of a classification: probabilities, entropies and their split by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mcdrop.prediction.base import Prediction
from mcdrop.prediction.given import given_probs
from mcdrop.prediction.plotting import table_html
from mcdrop.prediction.targets import class_labels, row_index

__all__ = ["ClassificationPrediction", "entropy"]


def entropy(probs: Tensor, dim: int = 1) -> Tensor:
    """Shannon entropy in nats along `dim`; 0 log 0 = 0."""
    # `torch.special.xlogy` takes twice as long.
    logs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    return -(probs * logs).sum(dim=dim)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ClassificationPrediction(Prediction):
    """Predictive distribution over C classes, one row per input row.

    Classes lie along dimension 1; "(N, ...)" below stands for (N,) or, for per-pixel outputs,
    (N, H, W). Entropies are in nats, ``predictive_entropy = expected_entropy +
    mutual_information``.

    Attributes:
        probs: Mean over passes of the class probabilities, (N, C, ...).
        probs_std: Standard deviation over passes (S - 1), (N, C, ...).
        expected_entropy: Mean over passes of the entropy of each pass (aleatoric), (N, ...).
        variation_ratio: Share of passes that do not vote for the most voted class, (N, ...).
        mcse: Monte Carlo standard error of `probs`, (N, C, ...): what more passes would still
            change. The mean over infinitely many lies within 1.96 of it in 95 % of predictions.
        probs_std_mcse: The same for `probs_std`; this and the next two are NaN for two passes,
            which cannot tell, and with the bias None for predictions not made by passes.
        predictive_entropy_mcse: The same for `predictive_entropy`, (N, ...), nats.
        mutual_information_mcse: The same for `mutual_information`, (N, ...), nats.
        mutual_information_bias: By how much `mutual_information` is expected to be off because
            there are S passes, (N, ...), nats. It is estimated: negative in expectation, but of
            fewer than 32 stratified passes, which show it less precisely, it may be positive.
        n_samples: Passes per row, S, or members of an ensemble; the most any row took where rows
            differ, and 0 where the probabilities were computed directly.
        passes_per_row: Passes that each row took, (N,), if that was left to the tolerance.
        samples: Probabilities of each pass, (S, N, C, ...), or None if not kept.
        run: How the passes ran; None for predictions not made by passes.
    """

    _derived: ClassVar[tuple[str, ...]] = (
        "labels",
        "confidence",
        "predictive_entropy",
        "mutual_information",
        "mutual_information_corrected",
    )

    probs: Tensor
    probs_std: Tensor
    expected_entropy: Tensor
    variation_ratio: Tensor
    mcse: Tensor
    probs_std_mcse: Tensor | None = None
    predictive_entropy_mcse: Tensor | None = None
    mutual_information_mcse: Tensor | None = None
    mutual_information_bias: Tensor | None = None
    passes_per_row: Tensor | None = None
    samples: Tensor | None = None

    @classmethod
    def from_probs(cls, probs: Any) -> ClassificationPrediction:
        """Take the class probabilities of any other method, which has one answer per row.

        Args:
            probs: Probabilities, (N, C, ...), summing to one over classes; or (N,) and (N, 1),
                the probability of class 1 of two. Tensor, ndarray, DataFrame, Series or list.

        Returns:
            A prediction without epistemic uncertainty, float64, with ``n_samples=0``.

        Raises:
            ShapeError: If there are no rows.
            NonFiniteError: If a value is NaN or infinite; the text names the rows.
            RangeError: If a value lies outside [0, 1], or rows do not sum to one.

        Example:
            >>> ClassificationPrediction.from_probs([0.25, 0.9]).probs
            tensor([[0.7500, 0.2500],
                    [0.1000, 0.9000]], dtype=torch.float64)
        """
        given = given_probs(f"{cls.__name__}.from_probs", "probs", probs)
        return ClassificationPrediction(
            probs=given,
            probs_std=torch.zeros_like(given),
            expected_entropy=entropy(given),
            variation_ratio=torch.zeros_like(given[:, 0]),
            mcse=torch.zeros_like(given),
            n_samples=0,
            index=row_index(probs),
        )

    @classmethod
    def from_samples(cls, samples: Any) -> ClassificationPrediction:
        """Take the class probabilities of each draw of a sampler, or member of an ensemble.

        Args:
            samples: Probabilities, draws or members first, (S, N, C, ...) with S >= 2,
                independent of one another; or (S, N), the probability of class 1 of two.

        Returns:
            A prediction whose `probs` are the mean over draws, float64, that keeps the samples.

        Raises:
            ShapeError: If there are fewer than 2 draws.
            NonFiniteError: If a value is NaN or infinite; the text names the rows.
            RangeError: If a value lies outside [0, 1], or rows do not sum to one.

        Example:
            >>> p = ClassificationPrediction.from_samples([[0.0], [1.0]])  # they contradict
            >>> p.probs, p.mutual_information  # log 2
            (tensor([[0.5000, 0.5000]], dtype=torch.float64),
             tensor([0.6931], dtype=torch.float64))
        """
        draws = given_probs(f"{cls.__name__}.from_samples", "samples", samples, members=True)
        probs, variance = draws.mean(dim=0), draws.var(dim=0)
        votes = torch.zeros_like(probs).scatter_add_(
            1, draws.argmax(dim=2).movedim(0, 1), torch.ones_like(draws[:, :, 0]).movedim(0, 1)
        )
        # The second-order term of the entropy of a mean; a class that no draw allows adds nothing.
        missed = torch.where(probs > 0, variance / (2 * len(draws) * probs), 0.0)
        return ClassificationPrediction(
            probs=probs,
            probs_std=variance.sqrt(),
            expected_entropy=entropy(draws, dim=2).mean(dim=0),
            variation_ratio=1 - votes.amax(dim=1) / len(draws),
            mcse=(variance / len(draws)).sqrt(),
            mutual_information_bias=-missed.sum(dim=1),
            n_samples=len(draws),
            samples=draws,
        )

    @property
    def labels(self) -> Tensor:
        """Most probable class of each row, (N, ...), int64."""
        return self.probs.argmax(dim=1)

    @property
    def confidence(self) -> Tensor:
        """Probability of the most probable class, (N, ...), in [1/C, 1]."""
        return self.probs.amax(dim=1)

    @property
    def predictive_entropy(self) -> Tensor:
        """Entropy of the mean probabilities: total uncertainty, (N, ...), in [0, log C] nats."""
        return entropy(self.probs)

    @property
    def mutual_information(self) -> Tensor:
        """Mutual information of label and weights (BALD): epistemic uncertainty, (N, ...), nats.

        This is the plug-in estimate over the S passes. Entropy is concave, so the entropy of the
        mean over S passes is too small on average, and so is this: by about
        ``sum_c Var(mean p_c) / (2 p_c)``, where the variance is that of the mean over passes. See
        `mutual_information_corrected`.

        Source: Houlsby et al. (2011); Gal (2016), section 3.3.
        """
        return (self.predictive_entropy - self.expected_entropy).clamp_min(0)

    @property
    def mutual_information_corrected(self) -> Tensor:
        """Mutual information with its bias at small S removed to first order, (N, ...), nats.

        Subtracts `mutual_information_bias`, the second-order term of the entropy of a mean (delta
        method), and of fewer than 32 stratified passes the third-order term as well. Equal to the
        plug-in where there are no passes.
        """
        if self.mutual_information_bias is None:
            return self.mutual_information
        return self.mutual_information - self.mutual_information_bias

    def log_prob(self, y: Any) -> Tensor:
        """Log predictive probability of each label.

        Args:
            y: Labels in [0, C), whole numbers, shape (N, ...).

        Returns:
            Log probability, (N, ...), in nats.

        Raises:
            ShapeError: If `y` does not have one label per row.
            NonFiniteError: If a label is NaN or infinite.
            RangeError: If a label is not a whole number in [0, C).

        Example:
            >>> half = torch.tensor([[0.5, 0.5]])
            >>> p = ClassificationPrediction(
            ...     probs=half, probs_std=0 * half, expected_entropy=torch.zeros(1),
            ...     variation_ratio=torch.zeros(1), mcse=0 * half, n_samples=0)
            >>> p.log_prob([1])
            tensor([-0.6931])
        """
        labels = class_labels("ClassificationPrediction.log_prob", y, self.probs, index=self.index)
        return self.probs.log().gather(1, labels.unsqueeze(1)).squeeze(1)

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for a notebook."""
        columns = {
            "label": self.labels,
            "confidence": self.confidence,
            "predictive_entropy": self.predictive_entropy,
            "mutual_information": self.mutual_information,
        }
        return table_html(repr(self), {k: v.detach().cpu() for k, v in columns.items()}, len(self))

    def __repr__(self) -> str:
        """Return one line: shape, passes and the average entropies."""
        return (
            f"ClassificationPrediction({tuple(self.probs.shape)}, {self._how()}, "
            f"predictive entropy {self.predictive_entropy.mean().item():.4g}, "
            f"mutual information {self.mutual_information.mean().item():.4g} nats)"
        )
