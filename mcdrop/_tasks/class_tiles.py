"""Statistics of class probabilities at some places of a large output, in float32.

float32 resolves a probability p near 0 to seven digits, but not 1 - p. So a class of a place that
is the most probable one is represented by y = 1 - p, the sum of all others, and the rest by y = p.
Rounding then changes y by 6e-8 of it, as much as a change of a score by 6e-8 does, which is the
resolution of scores of size 1. All other numbers are functions of deviations from means over
passes, which keep their digits, and sums over more than one chunk are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from mcdrop._engine.deviations import Deviations
from mcdrop._engine.groups import PassGroups
from mcdrop._engine.jackknife import jackknife, jackknife_about
from mcdrop._tasks.likelihoods import OutputType
from mcdrop._tasks.tails import LEAST, MOST, Tails
from mcdrop._tasks.widths import HALF_WIDTH, std_shift

__all__ = ["ClassTile", "TwoClassTile"]

_LOG_2 = math.log(2)
# Odds below 2 to this power are 0 in float64 as well; their product with it is not to be NaN.
_LOWEST = -1e4


class ClassTile:
    """Accumulates the passes of M places, for each of which C classes have scores.

    Args:
        groups: Groups of passes for the jackknife.
        output_type: What the scores are: "logits", "probs" or "log_probs".
        beside: Numbers per pass of the whole output, which limit how many groups are kept.
    """

    def __init__(self, groups: PassGroups, output_type: OutputType, beside: int) -> None:
        self._groups = groups
        self._output_type = output_type
        self._beside = beside
        self._moments, self._entropies = Deviations(groups), Deviations(groups, spread=False)
        self._tails = Tails(probabilities=True)
        self._likely = self._least = self._votes = torch.zeros(0, device="cpu")

    def update(self, scores: Tensor) -> None:
        """Add passes, which are overwritten. Those on a grid have to come at once.

        Args:
            scores: (s, C, M), float32 or float64.
        """
        passes = _Passes.of(scores, self._output_type)
        if not self._moments.count:
            # Of the first pass: what is the most probable in it has a mean of 1 / (C S) at least,
            # and 1 - p then no fewer digits than p.
            self._likely = passes.probs[:1].max(dim=1, keepdim=True).indices
            least = torch.full_like(passes.probs[0], LEAST)
            self._least = least.scatter_(0, self._likely[0], 1 - MOST)
            self._votes = torch.zeros_like(least)
        self._votes += passes.votes
        self._entropies.update(passes.entropies, self._beside)
        small = self._small(passes)
        self._tails.update(small, self._least)
        self._moments.update(small, self._beside)

    def _small(self, passes: _Passes) -> Tensor:
        """Write y in the place of probabilities, (s, C, M)."""
        where = self._likely.expand(len(passes.probs), 1, -1)
        probs = passes.probs.gather(1, where)
        # 1 - p has all digits where p is not the largest, and thus 1/2 at most.
        rest = torch.where(probs == passes.highest, passes.others, 1 - probs)
        return passes.probs.scatter_(1, where, rest)

    def part(self, places: Tensor) -> Self:
        """Return the statistics of some places.

        Args:
            places: Their numbers, in [0, M).
        """
        part = type(self)(self._groups, self._output_type, self._beside)
        by_class = slice(None), places
        part._moments, part._tails = self._moments.part(*by_class), self._tails.part(*by_class)
        part._entropies = self._entropies.part(places)
        part._likely = self._likely[..., places]
        part._least, part._votes = self._least[by_class], self._votes[by_class]
        return part

    def result(self) -> dict[str, Tensor]:
        """Return the fields of a prediction for these places, (C, M) or (M)."""
        dtype = self._least.dtype
        small, variance = self._moments.mean.to(dtype), self._moments.variance.to(dtype)
        likely = self._likely[0]
        sign = torch.ones_like(small).scatter_(0, likely, -1)
        # `where` takes several times as long.
        probs = torch.zeros_like(small).scatter_(0, likely, 1).addcmul_(sign, small)
        logs = small.clamp_min(torch.finfo(dtype).tiny).log_()
        logs.scatter_(0, likely, small.gather(0, likely).neg_().log1p_())
        # E[H(p)] <= H(E[p]) by Jensen; rounding must not break it.
        total = -(probs * logs).sum(dim=0)
        expected = torch.minimum(self._entropies.mean.to(dtype), total)
        missed = self._tails.missed_beside(small, probs, sign)
        shift = missed.mean * self._moments.nonlinear_share.sqrt().to(dtype)
        if missed.divergence is None:
            raise RuntimeError("ClassTile.result: tails of no probabilities")
        sizes, changes, variances = self._moments.changes_without_each()
        of_total = _entropy_changes(changes, probs, logs, sign)
        of_information = of_total - self._entropies.changes_without_each()[1]

        def error(changes: Tensor, shift: Tensor) -> Tensor:
            spread = jackknife(torch.zeros_like(total), changes, sizes)
            return torch.maximum(spread, shift / HALF_WIDTH)

        of_stds = jackknife_about(variances.sqrt_(), sizes)
        # Classes are taken to be independent: their rare passes are different ones.
        divergence = missed.divergence.square().sum(dim=0).sqrt()
        return {
            "probs": probs,
            "probs_std": variance.sqrt(),
            "expected_entropy": expected,
            "variation_ratio": 1 - self._votes.amax(dim=0) / self._votes.sum(dim=0),
            "mcse": torch.maximum(self._moments.mean_error.to(dtype), shift / HALF_WIDTH),
            "probs_std_mcse": torch.maximum(
                of_stds, std_shift(variance, missed.variance) / HALF_WIDTH
            ),
            "predictive_entropy_mcse": error(of_total, _entropy_shift(probs, logs, shift)),
            "mutual_information_mcse": error(of_information, divergence),
            "mutual_information_bias": self._entropy_bias(probs, sign),
        }

    def _entropy_bias(self, probs: Tensor, sign: Tensor) -> Tensor:
        """Return E[H(mean)] - H(E[mean]) as `accumulate` does, (M)."""
        safe = probs.clamp_min(LEAST)
        if not self._moments.on_grid:
            return -(self._moments.variance_of_mean / safe).sum(dim=0) / 2
        second, third = self._moments.excess_powers(sign / safe)
        return second.div_(2).sub_(third, alpha=1 / 6).mul_(probs).sum(dim=0)


class TwoClassTile(ClassTile):
    """Accumulates the passes of M places, for each of which class 1 of two has a logit.

    With y = 1 - p for the likelier class of the first pass, and y = p for the other one, both have
    the same y: it is looked at once, and counted for either in the result.
    """

    def update(self, scores: Tensor) -> None:
        """Add passes, which are overwritten. Those on a grid have to come at once.

        Args:
            scores: (s, 1, M), float32 or float64.
        """
        n_passes, is_first = len(scores), scores > 0
        if not self._moments.count:
            self._likely = is_first[:1].long()
            self._least = torch.full_like(scores[0], LEAST)
            self._votes = scores.new_zeros((2, scores.shape[2]))
        votes = is_first.sum(dim=0)
        self._votes += torch.cat([n_passes - votes, votes])
        size = scores.abs()
        # With q the smaller probability, -log(1 - q) - q log(q / (1 - q)) = H.
        lower = torch.sigmoid(-size)
        entropies = size.mul_(lower).sub_(lower.neg_().log1p_()).squeeze(1)
        self._entropies.update(entropies, self._beside)
        logits = scores.mul_(1 - 2 * self._likely)
        small = logits.sigmoid()
        self._tails.update(small, logits=logits)
        self._moments.update(small, self._beside)

    def result(self) -> dict[str, Tensor]:
        """Return the fields of a prediction for these places, (2, M) or (M)."""
        both = ClassTile(self._groups, "logits", self._beside)
        twice = torch.zeros(2, dtype=torch.int64, device="cpu")
        both._moments, both._tails = self._moments.part(twice), self._tails.part(twice)
        both._entropies, both._likely = self._entropies, self._likely
        both._least, both._votes = self._least, self._votes
        return both.result()


@dataclass(frozen=True)
class _Passes:
    """Class probabilities of passes.

    Attributes:
        probs: (s, C, M).
        highest: Probability of the likeliest class, (s, 1, M).
        others: Probability of all others, (s, 1, M).
        entropies: Over the classes, (s, M), nats.
        votes: Number of passes in which a class is the likeliest, (C, M).
    """

    probs: Tensor
    highest: Tensor
    others: Tensor
    entropies: Tensor
    votes: Tensor

    @classmethod
    def of(cls, scores: Tensor, output_type: OutputType) -> _Passes:
        """Turn scores, (s, C, M), into probabilities."""
        if output_type == "logits":
            return cls._of_logits(scores)
        if output_type == "probs":
            probs, logs = scores, scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        else:
            probs, logs = scores.exp(), scores
        top = logs.amax(dim=1, keepdim=True)
        relative = logs - top
        highest = probs.amax(dim=1, keepdim=True)
        others = 1 - highest if output_type == "probs" else -top.expm1()
        entropies = -(probs * logs).sum(dim=1)
        return cls(probs, highest, others, entropies, _votes(relative, relative.sign()))

    @classmethod
    def _of_logits(cls, logits: Tensor) -> _Passes:
        # `exp2` takes a third of the time of `exp`.
        relative = logits.sub_(logits.amax(dim=1, keepdim=True)).mul_(1 / _LOG_2)
        relative.clamp_min_(_LOWEST)
        odds, sign = relative.exp2(), relative.sign()
        votes = _votes(relative, sign)
        # With z = 1 + r the sum of all odds, H = log(1 + r) - sum p log odds. Both terms are near 0
        # where one class has nearly all, and r, the sum of the others, has all digits.
        rest = sign.sum(dim=1, keepdim=True).add_(sign.shape[1] - 1)
        rest -= sign.mul_(odds).sum(dim=1, keepdim=True)
        norm = rest + 1
        cross = relative.mul_(odds).sum(dim=1, keepdim=True).div_(norm)
        entropies = rest.log1p().sub_(cross, alpha=_LOG_2).squeeze(1)
        return cls(odds.div_(norm), 1 / norm, rest.div_(norm), entropies, votes)


def _votes(relative: Tensor, sign: Tensor) -> Tensor:
    """Count the passes in which a class is the likeliest, the first of several, (C, M).

    Args:
        relative: 0 for the likeliest class of a pass, less for others, (s, C, M).
        sign: Its sign.
    """
    votes = sign.sum(dim=0).add_(len(sign))
    once = relative[:, 0]
    if votes.sum(dtype=torch.float64).item() == once.numel():
        return votes
    labels = relative.max(dim=1).indices
    return torch.zeros_like(votes).scatter_add_(0, labels, torch.ones_like(once))


def _entropy_changes(changes: Tensor, probs: Tensor, logs: Tensor, sign: Tensor) -> Tensor:
    """Return by how much means without each group change the entropy, (G, M).

    With h(p) = -p log p, h(p + d) - h(p) = -d log p - (p + d) log(1 + d / p).

    Args:
        changes: Changes of y, (G, C, M).
        probs: Mean probabilities p, (C, M).
        logs: Their logarithms.
        sign: 1 or -1 where y is p or 1 - p.
    """
    relative = (changes * (sign / probs.clamp_min(LEAST))).clamp_min_(-MOST)
    found = relative.log1p()
    found.addcmul_(found, relative).addcmul_(relative, logs).mul_(probs)
    return found.sum(dim=1).neg_()


def _entropy_shift(probs: Tensor, logs: Tensor, missed: Tensor) -> Tensor:
    """Return how much the entropy changes if less likely classes take from the most likely one."""
    top = probs.amax(dim=0, keepdim=True)
    raised = torch.minimum(missed, 1 - probs)
    # The derivative of -p log p is -(log p + 1).
    change = raised * (top.log() + 1 - logs)
    change -= (probs + raised) * (raised / probs.clamp_min(LEAST)).log1p()
    # 0 for the most likely class, 1 for all others.
    return change.mul_((top - probs).sign_()).square_().sum(dim=0).sqrt_()
