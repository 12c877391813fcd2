"""Images rotated, shifted and noisy at five strengths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["STRENGTHS", "conditions"]

STRENGTHS = (1, 2, 3, 4, 5)


def conditions(X: Tensor, seed: int) -> dict[str, Tensor]:
    """Return images (N, 1, H, W) clean, and rotated, shifted and noisy at each strength."""
    noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(seed))
    return {
        "clean": X,
        **{f"rotated {k}": moved(X, 15.0 * k, 0.0) for k in STRENGTHS},
        **{f"shifted {k}": moved(X, 0.0, 0.5 * k) for k in STRENGTHS},
        **{f"noisy {k}": (X + 0.15 * k * noise).clamp(0, 1) for k in STRENGTHS},
    }


def moved(X: Tensor, degrees: float, pixels: float) -> Tensor:
    """Rotate images about their center, or shift them to the right; black comes in."""
    angle, zero = torch.deg2rad(torch.tensor(degrees)), torch.tensor(0.0)
    # Where to look for each pixel, in units of half the width.
    matrix = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin(), torch.tensor(-2 * pixels / X.shape[-1])]),
            torch.stack([angle.sin(), angle.cos(), zero]),
        ]
    )
    grid = F.affine_grid(matrix.expand(len(X), 2, 3), list(X.shape), align_corners=False)
    return F.grid_sample(X, grid, align_corners=False)
