"""What an exported estimator returns: the mixture over the passes of all of its members."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mcdrop._export.summary import Spread, Summary, entropy
from mcdrop.metrics._arrays import tensor_of

__all__ = ["MemberClasses", "MemberRegression"]


class MemberRegression(Summary):
    """Mean and standard deviation of a mixture over members and passes.

    The epistemic variance is the mean variance over passes plus the variance between members.

    Args:
        n_samples: Passes of a member, S.
        stratified: Whether they are stratified.
        noise_std: Standard deviation of the observation noise, (K,); None if it is predicted, or
            zero.
        heteroscedastic: Whether the second half of the outputs is the logarithm of its variance.
    """

    names = ("mean", "std", "epistemic_std")
    noise_variance: Tensor | None

    def __init__(
        self, n_samples: int, *, stratified: bool, noise_std: Any, heteroscedastic: bool
    ) -> None:
        super().__init__()
        self.variance = Spread(n_samples, stratified=stratified)
        self.heteroscedastic = heteroscedastic
        known = None if noise_std is None else tensor_of(noise_std).square()
        self.register_buffer("noise_variance", known)

    def forward(self, passes: Tensor) -> dict[str, Tensor]:
        """Summarize (S, n, M, K), or (S, n, M, 2 K) with predicted noise; (S, n, ...) for M = 1."""
        passes = _by_member(passes)
        noise: Tensor | float = 0.0
        if self.noise_variance is not None:
            noise = self.noise_variance.to(passes)
        if self.heteroscedastic:
            passes, log_noise = passes.chunk(2, dim=-1)
            noise = log_noise.exp().mean(dim=(0, 2))
        by_member = passes.mean(dim=0)
        mean = by_member.mean(dim=1)
        between = (by_member - mean.unsqueeze(1)).square().mean(dim=1)
        variance = self.variance(passes).mean(dim=1) + between
        return {"mean": mean, "std": (variance + noise).sqrt(), "epistemic_std": variance.sqrt()}


class MemberClasses(Summary):
    """Class probabilities of a mixture over members and passes."""

    names = ("probs", "probs_std", "predictive_entropy", "mutual_information")

    def forward(self, passes: Tensor) -> dict[str, Tensor]:
        """Summarize logits, (S, n, M, C); (S, n, C) for M = 1."""
        probs = _by_member(passes).double().softmax(dim=-1).movedim(2, 1).flatten(0, 1)
        mean = probs.mean(dim=0)
        total = entropy(mean, dim=1)
        expected = entropy(probs, dim=2).mean(dim=0)
        return {
            "probs": mean,
            "probs_std": probs.std(dim=0),
            "predictive_entropy": total,
            "mutual_information": (total - expected).clamp_min(0),
        }


def _by_member(passes: Tensor) -> Tensor:
    """Return (S, n, M, K); a network trained elsewhere is the only member."""
    return passes if passes.ndim == 4 else passes.flatten(2).unsqueeze(2)
