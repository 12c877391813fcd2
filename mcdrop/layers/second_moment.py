"""A loss that trains the spread of dropout passes, which the squared error drives to zero."""

from __future__ import annotations

from torch import Tensor

from mcdrop.checks import checked_positive, require_same_shape

__all__ = ["second_moment_loss"]


def second_moment_loss(passed: Tensor, center: Tensor, y: Tensor, *, beta: float = 0.5) -> Tensor:
    """Squared error of the whole network, and passes that are as far from it as the target is.

    loss = mean of (center - y)^2 + beta (|passed - center| - |center - y|)^2. The squared error of
    a pass alone is (mean - y)^2 plus the variance over passes in expectation: minimizing it takes
    away the spread. Here the whole network fits the mean, and only the passes are moved by the
    second term. The spread then contains the noise: predict without `noise_std`.

    Where passes and errors are normal with standard deviations s and sigma, the second term is
    s^2 - 2 s sigma (2 / pi) + sigma^2 on average, least at s = (2 / pi) sigma = 0.64 sigma: the
    spread has the right pattern, and a third too little size, which
    `mcdrop.recalibration.StdScaling` puts right.

    Args:
        passed: Output of one stochastic pass, (N, ...): the model in `train()`.
        center: Output with dropout off, same shape: the model in `eval()`, with gradients.
        y: Targets, same shape.
        beta: Weight of the second term, > 0.

    Returns:
        The mean loss, a scalar.

    Raises:
        ShapeError: If the three differ in shape.
        RangeError: If `beta` is not positive.

    Source:
        Sicking et al. (2021), A novel regression loss for non-parametric uncertainty optimization,
        arXiv:2101.02726, submitted in 2020 as "Second-moment loss".

    Example:
        >>> import torch
        >>> one, zero = torch.ones(1), torch.zeros(1)
        >>> second_moment_loss(one, center=zero, y=-one)  # as far from the center as the target
        tensor(1.)
    """
    weight = checked_positive("second_moment_loss", "beta", beta)
    require_same_shape("second_moment_loss", "center", center, y)
    require_same_shape("second_moment_loss", "passed", passed, y)
    held = center.detach()
    apart = (passed - held).abs() - (held - y).abs()
    return (center - y).square().mean() + weight * apart.square().mean()
