"""Widths of intervals, in standard errors."""

from __future__ import annotations

import numpy as np
import torch

from mcdrop._tasks.widths import on_log_scale, std_shift


def test_log_scale_widens_errors_that_are_large_for_the_quantity() -> None:
    whole = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    error = torch.tensor([0.001, 0.5, 0.0], dtype=torch.float64)
    # The upper end of exp(log 1 +- 1.96 * 0.5) is e^0.98, so (e^0.98 - 1) / 1.96 errors away.
    expected = [np.expm1(1.96 * 0.001) / 1.96, np.expm1(0.98) / 1.96, 0.0]
    np.testing.assert_allclose(on_log_scale(whole, error), expected, rtol=1e-12)


def test_a_standard_deviation_grows_less_the_larger_it_is() -> None:
    variance = torch.tensor([0.0, 16.0], dtype=torch.float64)
    # sqrt(0 + 9) - 0, and sqrt(16 + 9) - 4.
    expected = torch.tensor([3.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(std_shift(variance, torch.full_like(variance, 9.0)), expected)
