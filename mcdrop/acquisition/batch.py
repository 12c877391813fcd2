"""BatchBALD: k rows with the largest joint mutual information."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop._engine.moments import accumulation_dtype
from mcdrop.acquisition.scores import require_k
from mcdrop.checks import require_count
from mcdrop.errors import OutputError, ShapeError, UnsupportedError
from mcdrop.prediction import ClassificationPrediction
from mcdrop.prediction.classification import entropy

__all__ = ["BatchSelection", "batch_bald"]

# Numbers per temporary: 32 MiB in float64.
_BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class BatchSelection:
    """Rows chosen together, in the order of choice.

    Attributes:
        rows: Row numbers, (k,), int64.
        scores: Joint mutual information of the labels of the first 1, 2, ..., k rows with the
            weights, (k,), nats; never falls, and never exceeds log S.
        mcse: Monte Carlo standard error of `scores` from sampling label configurations, an upper
            estimate, (k,), nats; 0 as long as all configurations are enumerated.
    """

    rows: Tensor
    scores: Tensor
    mcse: Tensor


def batch_bald(
    prediction: ClassificationPrediction, k: int, *, n_mc: int = 10_000, seed: int = 0
) -> BatchSelection:
    """Choose k rows whose labels together would teach the model most.

    Greedily maximizes I(y_1, ..., y_k; w) = sum_i I(y_i; w | y_1, ..., y_{i-1}), within a factor
    1 - 1/e of the best batch. Given the labels of the rows chosen so far, pass s has the weight
    P(s | labels); averaged over labels, a further row adds

        I(y; w | labels) = H[sum_s P(s | labels) p_s(y)] - sum_s P(s | labels) H[p_s(y)].

    A second copy of a chosen row adds little, where the top k of `bald` would take all copies.
    Labels carry at most log S nats about which of S passes they came from: once the scores come
    near that, further rows are chosen by noise, so take more passes. Memory grows as
    ``n_mc * S``.

    Args:
        prediction: Classification of N rows with kept samples (S, N, C) from shared masks, so
            that each pass is one function. One that carries no `run` record, such as that of an
            ensemble, is taken to hold one function per sample.
        k: How many rows, 1 <= k <= N.
        n_mc: Label configurations of the chosen rows to average over: all C^b of them while
            there are no more than that, then at least so many drawn ones, equally many from
            every pass.
        seed: Seed of the drawn configurations; the same seed gives the same rows.

    Returns:
        The rows, their joint scores and the standard errors of these.

    Raises:
        UnsupportedError: If `prediction` is not a classification, or its masks were independent.
        OutputError: If the samples were not kept.
        ShapeError: If a row has several outputs.
        RangeError: If `k` is not a whole number in [1, N], or `n_mc` not one of at least 2.

    Source:
        Kirsch, van Amersfoort & Gal (2019), "BatchBALD", section 3 and algorithm 1; lazy
        evaluation of a submodular gain: Minoux (1978).

    Example:
        >>> from torch import nn
        >>> import mcdrop
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> pool = mcdrop.wrap(net, masks="shared").predict_with_uncertainty(
        ...     torch.randn(20, 3), task="classification", keep_samples=True)
        >>> batch_bald(pool, 5).rows.shape
        torch.Size([5])
    """
    samples = _function_samples(prediction)
    require_k("batch_bald", k, samples.shape[1])
    require_count("batch_bald", "n_mc", n_mc, 2)
    require_count("batch_bald", "seed", seed, 0)
    generator = torch.Generator(samples.device).manual_seed(seed)
    known = _Labels.none(samples)
    gains = known.shares.new_full((samples.shape[1],), torch.inf)
    rows: list[int] = []
    scores: list[Tensor] = []
    for _ in range(k):
        if rows:
            known = known.extended(samples, rows, n_mc, generator)
        row = _most_informative(known, samples, gains, len(rows))
        known = known.credited(_wide(samples[:, [row]]))
        gains[row] = -torch.inf
        rows.append(row)
        scores.append(torch.stack([known.information(), known.standard_error()]))
    score, mcse = torch.stack(scores, dim=1)
    return BatchSelection(torch.tensor(rows, device=samples.device), score, mcse)


@dataclass(frozen=True)
class _Labels:
    """Configurations of the chosen rows' labels: all M of them, or M drawn ones.

    Attributes:
        shares: Probability of each configuration, summing to 1, (M,).
        posterior: Probability of each pass given each configuration, (M, S).
        told: Mutual information of the rows chosen so far, along each configuration, (M,), nats.
        source: Pass that each drawn configuration comes from, (M,); None if all are enumerated.
    """

    shares: Tensor
    posterior: Tensor
    told: Tensor
    source: Tensor | None = None

    @classmethod
    def none(cls, samples: Tensor) -> _Labels:
        """Start with no labels: one empty configuration, all passes equally likely."""
        dtype = accumulation_dtype(samples.device)
        one = torch.ones(1, dtype=dtype, device=samples.device)
        posterior = (one / samples.shape[0]).expand(1, samples.shape[0])
        return cls(one, posterior, torch.zeros_like(one))

    def extended(
        self, samples: Tensor, rows: list[int], n_mc: int, generator: torch.Generator
    ) -> _Labels:
        """Append the label of the row chosen last to every configuration."""
        newest = _wide(samples[:, rows[-1]])
        if self.source is not None:
            return self._drawn(newest, self.source, generator)
        if len(self.shares) * newest.shape[1] <= n_mc:
            return self._enumerated(newest)
        # Sampling starts over from the passes; the exact score so far is common to all samples.
        n_passes = samples.shape[0]
        source = torch.arange(n_passes, device=samples.device).repeat(-(-n_mc // n_passes))
        shares = torch.full_like(source, 1, dtype=newest.dtype) / len(source)
        posterior = torch.full_like(newest[:, 0], 1 / n_passes).expand(len(source), n_passes)
        drawn = _Labels(shares, posterior, self.information().expand(len(source)), source)
        for row in rows:
            drawn = drawn._drawn(_wide(samples[:, row]), source, generator)
        return drawn

    def _enumerated(self, probs: Tensor) -> _Labels:
        """Split every configuration by the C labels of one more row, whose `probs` are (S, C)."""
        joint = self.posterior.unsqueeze(1) * probs.T
        total = joint.sum(dim=2)
        shares = (self.shares.unsqueeze(1) * total).flatten()
        told = self.told.repeat_interleave(probs.shape[1])
        return _Labels(shares, _normalized(joint).flatten(0, 1), told)

    def _drawn(self, probs: Tensor, source: Tensor, generator: torch.Generator) -> _Labels:
        """Append to every configuration a label drawn from its own pass; `probs` are (S, C)."""
        labels = probs[source].multinomial(1, generator=generator).squeeze(1)
        posterior = _normalized(self.posterior * probs.T[labels])
        return _Labels(self.shares, posterior, self.told, source)

    def gain(self, probs: Tensor) -> Tensor:
        """Information of one more row's label, by configuration: (S, n, C) to (M, n)."""
        mixture = (self.posterior @ probs.flatten(1)).view(-1, *probs.shape[1:])
        # Both terms see the same posterior, so that Jensen's inequality holds in every draw.
        return (entropy(mixture, dim=2) - self.posterior @ entropy(probs, dim=2)).clamp_min(0)

    def credited(self, probs: Tensor) -> _Labels:
        """Add the information of a newly chosen row, `probs` (S, 1, C), to every configuration."""
        told = self.told + self.gain(probs).squeeze(1)
        return _Labels(self.shares, self.posterior, told, self.source)

    def information(self) -> Tensor:
        """Return the joint mutual information, in nats."""
        return self.shares @ self.told

    def standard_error(self) -> Tensor:
        """Return the standard error of `information`; 0 if all configurations are enumerated."""
        if self.source is None:
            return torch.zeros_like(self.shares[0])
        return self.told.std() / len(self.told) ** 0.5


def _most_informative(known: _Labels, samples: Tensor, gains: Tensor, n_chosen: int) -> int:
    """Find the row that adds most, and keep `gains` up to date for the rows looked at.

    A gain can only shrink as more labels are known, so the gains of earlier steps are bounds, and
    rows whose bound is below the best gain need no evaluation.
    """
    order = gains.argsort(descending=True, stable=True)[: len(gains) - n_chosen]
    n_classes = samples.shape[2]
    block_rows = max(1, _BLOCK_ELEMENTS // (n_classes * max(len(known.shares), samples.shape[0])))
    best, row = -1.0, -1
    for block in order.split(block_rows):
        if float(gains[block[0]]) <= best:
            break
        gains[block] = known.shares @ known.gain(_wide(samples[:, block]))
        value, place = gains[block].max(dim=0)
        if float(value) > best:
            best, row = float(value), int(block[place])
    return row


def _function_samples(prediction: ClassificationPrediction) -> Tensor:
    """Return the kept samples, (S, N, C), of which each pass is one function of the rows."""
    if not isinstance(prediction, ClassificationPrediction):
        raise UnsupportedError.of(
            "batch_bald",
            "prediction",
            "be a ClassificationPrediction",
            type(prediction).__name__,
            "Rank regressions by max_variance",
        )
    if prediction.run is not None and prediction.run.masks != "shared":
        raise UnsupportedError.of(
            "batch_bald",
            "prediction",
            "come from shared masks, because joint statements need one function per pass",
            f"{prediction.run.masks} masks",
            'Predict with mcdrop.wrap(model, masks="shared"), or take top_k(bald(prediction), k)',
        )
    if prediction.samples is None:
        raise OutputError.of(
            "batch_bald", "samples", "be kept", "None", "Predict with keep_samples=True"
        )
    if prediction.samples.ndim != 3:
        raise ShapeError.of(
            "batch_bald",
            "samples",
            "have shape (S, N, C)",
            tuple(prediction.samples.shape),
            "Rank rows with several outputs by top_k(bald(prediction), k)",
        )
    return prediction.samples


def _wide(probs: Tensor) -> Tensor:
    """Return probabilities in the accumulation type, summing to 1 to its precision."""
    wide = probs.to(accumulation_dtype(probs.device))
    return wide / wide.sum(dim=-1, keepdim=True)


def _normalized(weights: Tensor) -> Tensor:
    """Scale the last dimension to sum to 1; an impossible configuration stays at 0."""
    return weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
