"""The result of a regression: means, variances split by source, intervals and densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mcdrop.errors import RangeError
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.mixture import empirical_quantile, mixture_log_prob, mixture_quantile

__all__ = ["RegressionPrediction"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RegressionPrediction(Prediction):
    """Predictive distribution of real-valued targets, one row per input row.

    Tensors have the shape of the model's output, (N, D) or (N, ...), and the units of y or y^2.
    ``variance = epistemic_variance + aleatoric_variance``.

    Attributes:
        mean: Predictive mean, the average over passes.
        epistemic_variance: Variance over passes, unbiased (divided by S - 1).
        aleatoric_variance: Variance of the observation noise, averaged over passes; zeros if no
            noise was given, in which case every spread speaks of the mean function, not of y.
        mcse: Monte Carlo standard error of `mean`: what more passes would still change. The mean
            over infinitely many lies within 1.96 of it in 95 % of predictions.
        std_mcse: The same for `std`; NaN for two passes, which cannot tell, and None for
            predictions not made by passes.
        n_samples: Passes per row, S; 0 for a closed-form prediction, the most any row took where
            rows differ.
        passes_per_row: Passes that each row took, (N,), if that was left to the tolerance.
        samples: Predictive mean of each pass, (S, N, ...), or None if not kept.
        sample_variances: Noise variance of each pass, (S, N, ...), where it varies by pass.
        family: "mixture" (equal-weight mixture over passes, the Monte Carlo predictive) or
            "normal" (the normal with the same mean and variance).
        run: How the passes ran; None for predictions not made by passes.
    """

    _derived: ClassVar[tuple[str, ...]] = ("std", "variance", "epistemic_std", "aleatoric_std")

    mean: Tensor
    epistemic_variance: Tensor
    aleatoric_variance: Tensor
    mcse: Tensor
    n_samples: int
    std_mcse: Tensor | None = None
    passes_per_row: Tensor | None = None
    samples: Tensor | None = None
    sample_variances: Tensor | None = None
    family: Literal["mixture", "normal"] = "mixture"

    @property
    def variance(self) -> Tensor:
        """Predictive variance, epistemic plus aleatoric; units of y squared."""
        return self.epistemic_variance + self.aleatoric_variance

    @property
    def std(self) -> Tensor:
        """Predictive standard deviation; units of y."""
        return self.variance.sqrt()

    @property
    def epistemic_std(self) -> Tensor:
        """Standard deviation over passes; units of y."""
        return self.epistemic_variance.sqrt()

    @property
    def aleatoric_std(self) -> Tensor:
        """Standard deviation of the observation noise; units of y."""
        return self.aleatoric_variance.sqrt()

    def as_normal(self) -> RegressionPrediction:
        """Return the same prediction with the moment-matched normal as its distribution."""
        return replace(self, family="normal")

    def covariance(self) -> Tensor:
        """Predictive covariance between rows, for each output on its own.

        Its diagonal is `variance`: rows share the uncertainty about the function, while their
        observation noise is independent.

        Returns:
            Shape (..., N, N), the dimensions of one row first; units of y squared.

        Raises:
            OutputError: If masks were independent, or the samples were not kept.
        """
        samples = self.joint_samples().double()
        centered = (samples - samples.mean(dim=0)).movedim(1, -1)
        products = torch.einsum("s...n,s...m->...nm", centered, centered)
        # Scaled to the unbiased variances, which know about stratified passes.
        raw = products.diagonal(dim1=-2, dim2=-1)
        target = self.epistemic_variance.double().movedim(0, -1)
        scale = torch.where(raw > 0, target / raw, 0.0).sqrt()
        shared = products * scale.unsqueeze(-1) * scale.unsqueeze(-2)
        noise = self.aleatoric_variance.double().movedim(0, -1).diag_embed()
        return (shared + noise).to(self.mean.dtype)

    def log_prob(self, y: Any) -> Tensor:
        """Log predictive density of each target on its own.

        For the mixture this is ``log (1/S) sum_s N(y; samples_s, noise_s)``, the estimator of Gal
        & Ghahramani (2016), eq. 8; for the normal it is ``log N(y; mean, variance)``.

        Args:
            y: Targets with the shape of `mean`; (N,) may stand for (N, 1).

        Returns:
            Log density, shape of `mean`, in nats.

        Raises:
            ShapeError: If `y` does not have one target per predicted value.
            OutputError: If the mixture is asked for and no samples were kept.
            RangeError: If some variance is zero, so that there is no density.

        Example:
            >>> one = torch.ones(1)
            >>> p = RegressionPrediction(
            ...     mean=0 * one, epistemic_variance=0 * one, aleatoric_variance=one,
            ...     mcse=0 * one, n_samples=0, family="normal")
            >>> p.log_prob([0.0])
            tensor([-0.9189])
        """
        target = self._aligned_target("log_prob", y, self.mean.shape).double()
        if self.family == "normal":
            means, stds = self.mean.double().unsqueeze(0), self.std.double().unsqueeze(0)
        else:
            means = self._require_samples("log_prob").double()
            stds = self._component_variances().double().sqrt()
        if bool((stds <= 0).any()):
            raise RangeError.of(
                "RegressionPrediction.log_prob",
                "variance",
                "be positive for a density",
                "0 in some rows",
                "Predict with noise_std= (units of y), or use metrics that need no density",
            )
        return mixture_log_prob(means, stds, target).to(self.mean.dtype)

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Quantile of the predictive distribution.

        Args:
            q: One level in (0, 1), or Q of them.

        Returns:
            Shape of `mean` for one level, (Q, N, ...) for several; units of y.

        Raises:
            RangeError: If a level lies outside (0, 1).
            OutputError: If the mixture is asked for and no samples were kept.
        """
        if isinstance(q, Sequence):
            return torch.stack([self.quantile(float(level)) for level in q])
        if not 0 < q < 1:
            raise RangeError.of(
                "RegressionPrediction.quantile", "q", "lie in (0, 1)", q, "Pass a probability"
            )
        if self.family == "normal":
            z = torch.special.ndtri(torch.tensor(q, dtype=torch.float64)).item()
            return self.mean + z * self.std
        samples = self._require_samples("quantile")
        variances = self._component_variances().expand_as(samples)
        if not bool((variances > 0).any()):
            return empirical_quantile(samples, q)
        return _by_row_blocks(
            lambda m, v: mixture_quantile(m, v.sqrt().clamp_min(1e-12 * (1 + m.abs().amax())), q),
            samples,
            variances,
        ).to(self.mean.dtype)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central interval that holds y with probability `level`: equal tails.

        Args:
            level: Probability inside, in (0, 1).

        Returns:
            Lower and upper end, each of the shape of `mean`; units of y.

        Raises:
            RangeError: If `level` lies outside (0, 1).
            OutputError: If the mixture is asked for and no samples were kept.
        """
        if not 0 < level < 1:
            raise RangeError.of(
                "RegressionPrediction.interval",
                "level",
                "lie in (0, 1)",
                level,
                "Pass a probability such as 0.9",
            )
        tail = (1 - level) / 2
        return self.quantile(tail), self.quantile(1 - tail)

    def _component_variances(self) -> Tensor:
        """Return the noise variance of every mixture component, (S, N, ...) or (1, N, ...)."""
        if self.sample_variances is not None:
            return self.sample_variances
        return self.aleatoric_variance.unsqueeze(0)

    def __repr__(self) -> str:
        """Return one line: rows, passes and the average spread by source."""
        rms = {
            name: math.sqrt(getattr(self, f"{name}_variance").double().mean().item())
            for name in ("epistemic", "aleatoric")
        }
        noise = "" if rms["aleatoric"] > 0 else " (no observation noise given)"
        how = "closed form" if self.run is None else f"{self.n_samples} passes, {self.run.strategy}"
        return (
            f"RegressionPrediction({tuple(self.mean.shape)}, {how}, "
            f"epistemic std {rms['epistemic']:.4g}, aleatoric std {rms['aleatoric']:.4g}{noise})"
        )


def _by_row_blocks(
    solve: Callable[[Tensor, Tensor], Tensor], samples: Tensor, variances: Tensor
) -> Tensor:
    """Apply `solve` to blocks of rows in float64, so that temporaries stay small."""
    rows = max(1, 2**21 // max(1, samples[:, :1].numel()))
    blocks = zip(samples.split(rows, dim=1), variances.split(rows, dim=1), strict=True)
    return torch.cat([solve(m.double(), v.double()) for m, v in blocks])
