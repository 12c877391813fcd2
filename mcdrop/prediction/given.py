"""Arrays from any other method, checked before they become a prediction.

NumPy, torch, pandas and lists become float64 tensors, which stay on the device of a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcdrop.checks import (
    require_finite,
    require_probabilities,
    require_rows,
    require_spread,
    rows_text,
    shown,
)
from mcdrop.errors import RangeError, ShapeError
from mcdrop.prediction.targets import numbers

__all__ = ["given_mean", "given_noise", "given_probs", "given_samples", "given_spread"]

# Softmax in half precision and rounded files miss one by this much.
_SUM_TOLERANCE = 1e-3


def given_mean(function: str, argument: str, values: Any) -> Tensor:
    """Return one finite number per row and output, (N, ...)."""
    mean = numbers(function, argument, values).detach()
    require_rows(function, argument, mean)
    require_finite(function, axis=0, **{argument: mean})
    return mean


def given_spread(function: str, argument: str, values: Any, mean: Tensor) -> Tensor:
    """Return standard deviations >= 0 in the shape of `mean`; one number stands for all."""
    std = numbers(function, argument, values).detach().to(mean.device)
    if std.ndim == 0:
        std = std.expand_as(mean)
    elif std.shape[0] != mean.shape[0] or std.numel() != mean.numel():
        raise ShapeError.of(
            function,
            argument,
            f"be one number or have shape {shown(mean.shape)} to match `mean`",
            shown(std.shape),
            "Pass one standard deviation per mean",
        )
    require_finite(function, axis=0, **{argument: std.reshape(mean.shape)})
    require_spread(function, argument, std.reshape(mean.shape), zero=True)
    return std.reshape(mean.shape).clone()


def given_samples(function: str, argument: str, values: Any) -> Tensor:
    """Return finite draws or members, (S, N, ...), at least two of them."""
    samples = numbers(function, argument, values).detach()
    if samples.ndim < 2 or samples.shape[0] < 2 or not samples.numel():
        raise ShapeError.of(
            function,
            argument,
            "have shape (S, N, ...) with S >= 2 draws or members first",
            shown(samples.shape),
            "Stack the predictions of the members along a new first dimension",
        )
    require_finite(function, axis=1, **{argument: samples})
    return samples


def given_noise(function: str, values: Any, samples: Tensor) -> Tensor:
    """Return noise standard deviations that broadcast to `samples`, (S, N, ...) or (1, N, ...).

    One number, one per output, one per row and output, or one for each of these and each member.
    """
    noise = numbers(function, "noise_std", values).detach().to(samples.device)
    row, member = samples.shape[2:], samples.shape[1:]
    allowed = (torch.Size(()), row, member, samples.shape)
    if noise.shape not in allowed and member[1:] == (1,):
        # (N,) stands for (N, 1), as for targets.
        noise = noise.unsqueeze(-1)
    if noise.shape not in allowed:
        named = ", ".join(dict.fromkeys(shown(shape) for shape in allowed[1:] if shape))
        raise ShapeError.of(
            function,
            "noise_std",
            f"be one number or have shape {named}",
            shown(noise.shape),
            "Pass one noise level for all, per output, per row, or per member and row",
        )
    axis = 1 if noise.shape == samples.shape else 0
    if noise.ndim:
        require_finite(function, axis=axis, noise_std=noise)
    bad = ~((noise >= 0) & noise.isfinite())
    if bool(bad.any()):
        raise RangeError.of(
            function,
            "noise_std",
            "be a finite number of at least 0",
            f"{float(noise[bad].flatten()[0]):g}",
            "Pass a standard deviation in units of y, not its logarithm",
        )
    if noise.shape == samples.shape:
        return noise
    return noise.expand(member).unsqueeze(0).clone()


def given_probs(function: str, argument: str, values: Any, *, members: bool = False) -> Tensor:
    """Return class probabilities, (N, C, ...), or (S, N, C, ...) for several members.

    One number per row is the probability of class 1 of two.
    """
    rows = 1 if members else 0
    probs = given_samples(function, argument, values) if members else None
    if probs is None:
        probs = given_mean(function, argument, values)
    if members and probs.ndim == 2:
        _require_draws_first(function, argument, probs)
    slack = 0.0 if probs.ndim <= rows + 1 else _SUM_TOLERANCE
    require_probabilities(function, argument, probs.transpose(0, rows), slack=slack)
    if probs.ndim == rows + 1:
        return torch.stack([1 - probs, probs], dim=rows + 1)
    if probs.shape[rows + 1] == 1:
        probs = probs.clamp_max(1.0)
        return torch.cat([1 - probs, probs], dim=rows + 1)
    sums = probs.sum(dim=rows + 1)
    bad = (sums - 1).abs() > _SUM_TOLERANCE
    if bool(bad.any()):
        raise RangeError.of(
            function,
            argument,
            "have rows that sum to one",
            f"a sum of {float(sums[bad][0]):g} in {rows_text(bad, rows)}",
            "Pass probabilities, not logits: softmax(logits, -1)",
        )
    return probs


def _require_draws_first(function: str, argument: str, probs: Tensor) -> None:
    """Refuse (N, C): one draw of all classes, where (S, N) draws of class 1 are expected."""
    sums = probs.sum(dim=1)
    if probs.shape[1] > 1 and bool(((sums - 1).abs() < _SUM_TOLERANCE).all()):
        raise ShapeError.of(
            function,
            argument,
            "have draws or members first, (S, N, C)",
            f"{shown(probs.shape)}, whose rows sum to one as those of a single member do",
            "Stack several members, or pass a single one to from_probs",
        )
