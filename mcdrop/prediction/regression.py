"""The result of a regression: means, variances split by source, intervals and densities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt
import torch
from torch import Tensor

from mcdrop.errors import RangeError, ShapeError
from mcdrop.prediction.base import Prediction
from mcdrop.prediction.given import given_mean, given_noise, given_samples, given_spread
from mcdrop.prediction.mixture import empirical_quantile, mixture_log_prob, quantile_by_blocks
from mcdrop.prediction.plotting import plot_band, table_html
from mcdrop.prediction.targets import aligned_targets, checked_levels, row_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RegressionPrediction"]

# Columns of the table in a notebook.
_SHOWN = ("mean", "std", "epistemic_std", "aleatoric_std")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RegressionPrediction(Prediction):
    """Predictive distribution of real-valued targets, one row per input row.

    Tensors have the shape of the model's output, (N, D) or (N, ...), and the units of y or y^2.
    ``variance = epistemic_variance + aleatoric_variance``.

    Attributes:
        mean: Predictive mean, the average over passes.
        epistemic_variance: Variance over passes, unbiased (divided by S - 1).
        aleatoric_variance: Variance of the observation noise, averaged over passes: noise_std^2,
            where noise_std = tau^-1/2 for Gal's noise precision tau. Zeros if no noise was given,
            in which case every spread is that of the mean function, not of y.
        mcse: Monte Carlo standard error of `mean`: what more passes would still change. The mean
            over infinitely many lies within 1.96 of it in 95 % of predictions.
        std_mcse: The same for `std`; NaN for two passes, which cannot tell, and None for
            predictions not made by passes.
        n_samples: Passes per row, S, or members of an ensemble; the most any row took where rows
            differ, and 0 where one mean and one variance were computed directly.
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
    std_mcse: Tensor | None = None
    passes_per_row: Tensor | None = None
    samples: Tensor | None = None
    sample_variances: Tensor | None = None
    family: Literal["mixture", "normal"] = "mixture"

    @classmethod
    def from_mean_std(
        cls, mean: Any, std: Any, *, epistemic_std: Any = None
    ) -> RegressionPrediction:
        """Take the normal predictive distribution of any other method.

        Args:
            mean: Predictive mean, (N,) or (N, ...): Tensor, ndarray, DataFrame, Series or list;
                units of y.
            std: Predictive standard deviation of y, >= 0, in the shape of `mean`; or one number.
            epistemic_std: The part of `std` that is uncertainty about the function, in the shape
                of `mean`; None if the method does not tell, and all of it then counts as noise.

        Returns:
            A prediction of family "normal", float64, with ``n_samples=0``.

        Raises:
            ShapeError: If the shapes differ, or there are no rows.
            NonFiniteError: If a value is NaN or infinite; the text names the rows.
            RangeError: If a standard deviation is negative, or the part exceeds the whole.

        Example:
            >>> p = RegressionPrediction.from_mean_std([1.0, 2.0], [0.5, 0.5], epistemic_std=0.3)
            >>> p.aleatoric_std, p.std
            (tensor([0.4000, 0.4000], dtype=torch.float64),
             tensor([0.5000, 0.5000], dtype=torch.float64))
        """
        function = f"{cls.__name__}.from_mean_std"
        center = given_mean(function, "mean", mean)
        total = given_spread(function, "std", std, center).square()
        part = 0.0 if epistemic_std is None else epistemic_std
        epistemic = given_spread(function, "epistemic_std", part, center).square()
        # Rounding may put equal parts in the wrong order.
        if bool((epistemic > total * (1 + 1e-6)).any()):
            raise RangeError.of(
                function,
                "epistemic_std",
                "be at most `std`, of which it is a part",
                "larger values",
                "Pass the standard deviation of y as std, not that of the noise alone",
            )
        return RegressionPrediction(
            mean=center,
            epistemic_variance=epistemic,
            aleatoric_variance=(total - epistemic).clamp_min(0),
            mcse=torch.zeros_like(center),
            n_samples=0,
            index=row_index(mean),
            family="normal",
        )

    @classmethod
    def from_samples(cls, samples: Any, *, noise_std: Any = None) -> RegressionPrediction:
        """Take the draws of any other sampler, or the members of an ensemble.

        The predictive distribution is their equal-weight mixture, each with its noise.

        Args:
            samples: Draws or members first, (S, N, ...) with S >= 2, independent of one another;
                units of y. With `noise_std` these are means; draws of y itself hold the noise.
            noise_std: Standard deviation of the observation noise: one number, one per output,
                one per row and output, or (S, N, ...) where members predict their own.

        Returns:
            A prediction of family "mixture", float64, that keeps the samples.

        Raises:
            ShapeError: If there are fewer than 2 draws, or the noise fits none of these shapes.
            NonFiniteError: If a value is NaN or infinite; the text names the rows.
            RangeError: If a noise level is negative.

        Example:
            >>> p = RegressionPrediction.from_samples([[1.0], [3.0]], noise_std=0.5)
            >>> p.mean, p.epistemic_variance, p.aleatoric_variance
            (tensor([2.], dtype=torch.float64), tensor([2.], dtype=torch.float64),
             tensor([0.2500], dtype=torch.float64))
        """
        function = f"{cls.__name__}.from_samples"
        draws = given_samples(function, "samples", samples)
        noise = given_noise(function, 0.0 if noise_std is None else noise_std, draws).square()
        variance = draws.var(dim=0)
        return RegressionPrediction(
            mean=draws.mean(dim=0),
            epistemic_variance=variance,
            aleatoric_variance=noise.mean(dim=0),
            mcse=(variance / len(draws)).sqrt(),
            n_samples=len(draws),
            samples=draws,
            sample_variances=noise if len(noise) > 1 else None,
        )

    @classmethod
    def from_point(cls, mean: Any) -> RegressionPrediction:
        """Take the point forecast of any other method, which states no uncertainty.

        Args:
            mean: Forecast, (N,) or (N, ...): Tensor, ndarray, DataFrame, Series or list; units
                of y.

        Returns:
            A prediction of zero variance: errors can be scored, densities cannot.

        Raises:
            ShapeError: If there are no rows.
            NonFiniteError: If a value is NaN or infinite; the text names the rows.

        Example:
            >>> RegressionPrediction.from_point([1.0, 2.0]).std
            tensor([0., 0.], dtype=torch.float64)
        """
        center = given_mean(f"{cls.__name__}.from_point", "mean", mean)
        return replace(cls.from_mean_std(center, 0.0), index=row_index(mean))

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
        target = aligned_targets(f"{type(self).__name__}.log_prob", y, self.mean, index=self.index)
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
                "Predict with noise_std= (units of y; fit_noise_std finds it on held-out rows), or"
                " use metrics that need no density",
            )
        return mixture_log_prob(means, stds, target).to(self.mean.dtype)

    def quantile(self, q: float | Sequence[float] | npt.NDArray[Any] | Tensor) -> Tensor:
        """Quantile of the predictive distribution.

        Args:
            q: One level in (0, 1), or Q of them: a list, an array or a tensor.

        Returns:
            Shape of `mean` for one level, (Q, N, ...) for several; units of y.

        Raises:
            RangeError: If a level lies outside (0, 1).
            ShapeError: If there is no level, or levels have more than one dimension.
            OutputError: If the mixture is asked for and no samples were kept.

        Example:
            >>> one = torch.ones(1)
            >>> p = RegressionPrediction(
            ...     mean=0 * one, epistemic_variance=0 * one, aleatoric_variance=one,
            ...     mcse=0 * one, n_samples=0, family="normal")
            >>> p.quantile([0.5, 0.975])
            tensor([[0.0000],
                    [1.9600]])
        """
        levels = checked_levels(f"{type(self).__name__}.quantile", "q", q)
        if levels.ndim == 0:
            return self._quantile_at("quantile", levels.item())
        return torch.stack([self._quantile_at("quantile", level) for level in levels.tolist()])

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
        function = f"{type(self).__name__}.interval"
        if checked_levels(function, "level", level).ndim:
            raise ShapeError.of(
                function, "level", "be one number", f"{level}", "Ask for one interval at a time"
            )
        tail = (1 - float(level)) / 2
        return self._quantile_at("interval", tail), self._quantile_at("interval", 1 - tail)

    def _quantile_at(self, method: str, q: float) -> Tensor:
        """Return the quantile at one level, for the public `method`."""
        if self.family == "normal":
            z = torch.special.ndtri(torch.tensor(q, dtype=torch.float64, device="cpu")).item()
            return self.mean + z * self.std
        samples = self._require_samples(method)
        variances = self._component_variances().expand_as(samples)
        if not bool((variances > 0).any()):
            return empirical_quantile(samples, q)
        return quantile_by_blocks(samples, variances, q).to(self.mean.dtype)

    def _without_samples(self, method: str) -> str:
        """Return what to do where samples are missing."""
        if method not in ("quantile", "interval", "log_prob"):
            return super()._without_samples(method)
        remedy = (
            "Predict with keep_samples=True, or ask for the normal of the same mean and variance"
            f" with prediction.as_normal().{method}(...)"
        )
        if bool((self.aleatoric_variance > 0).any()):
            return remedy
        return (
            f"{remedy}; pass noise_std= as well, without which the spread is that of the mean"
            " function and not of y"
        )

    def _component_variances(self) -> Tensor:
        """Return the noise variance of every mixture component, (S, N, ...) or (1, N, ...)."""
        if self.sample_variances is not None:
            return self.sample_variances
        return self.aleatoric_variance.unsqueeze(0)

    def plot(
        self, x: Any, *, ax: Axes | None = None, level: float = 0.9, name: str | None = None
    ) -> Axes:
        """Draw the predictive mean and its central interval over a one-dimensional input.

        Where passes were not kept, the interval is that of the normal with the same mean and
        variance.

        Args:
            x: Input of each row, (N,) or (N, 1).
            ax: Axes to draw on; a new figure of pyplot by default.
            level: Coverage of the interval, in (0, 1).
            name: Name of the line in the key.

        Returns:
            The axes.

        Raises:
            ShapeError: If `x` is not one number per row, or there are several outputs.
            UnsupportedError: If matplotlib is not installed.

        Example:
            >>> from matplotlib.figure import Figure
            >>> x = torch.linspace(0, 1, 5)
            >>> p = RegressionPrediction(
            ...     mean=x**2, epistemic_variance=0 * x, aleatoric_variance=0 * x + 1, mcse=0 * x,
            ...     n_samples=0, family="normal")
            >>> p.plot(x, ax=Figure().add_subplot()).get_legend_handles_labels()[1]
            ['predictive mean', '90 % interval']
        """
        return plot_band(self, x, ax=ax, level=level, name=name)

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for a notebook."""
        columns = {name: getattr(self, name).detach().cpu() for name in _SHOWN}
        return table_html(repr(self), columns, len(self))

    def __repr__(self) -> str:
        """Return one line: rows, passes and the average spread by source."""
        rms = {
            name: math.sqrt(getattr(self, f"{name}_variance").double().mean().item())
            for name in ("epistemic", "aleatoric")
        }
        noise = "" if rms["aleatoric"] > 0 else " (no observation noise given)"
        return (
            f"RegressionPrediction({tuple(self.mean.shape)}, {self._how()}, "
            f"epistemic std {rms['epistemic']:.4g}, aleatoric std {rms['aleatoric']:.4g}{noise})"
        )
