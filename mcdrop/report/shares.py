"""Shares of rows and their paired differences, with intervals that keep their width."""

from __future__ import annotations

import math

from torch import Tensor

from mcdrop.metrics import Estimate, wilson_interval

__all__ = ["share_difference", "share_estimate"]


def share_estimate(outcomes: Tensor, level: float) -> Estimate:
    """Return the share of ones in (N,) or (N, D), with the Wilson interval of N rows.

    Outputs of one row may depend on each other, so the interval counts rows only.
    """
    by_row = _by_row(outcomes)
    n, share = len(by_row), by_row.mean().item()
    low, high = wilson_interval(share * n, n, level=level)
    error = math.sqrt(max(0.0, share * (1 - share)) / n)
    return Estimate(share, float(low), float(high), error, level, n, "wilson")


def share_difference(a: Tensor, b: Tensor, level: float) -> Estimate:
    """Return share(a) - share(b) on the same rows, with Newcombe's interval.

    With Wilson intervals [l, u] of the two shares p and q and the correlation phi of the outcomes,
    the lower end lies sqrt(x^2 - 2 phi x y + y^2) below p - q, where x = p - l_p and y = u_q - q;
    the upper end lies above it likewise, with x = u_p - p and y = q - l_q. A positive covariance
    is reduced by 1 / (2 N), as for a continuity correction, so that outcomes that are equal in all
    rows leave the interval some width.

    Source:
        Newcombe (1998), Improved confidence intervals for the difference between binomial
        proportions based on paired data, method 10.
    """
    n = len(a)
    p, q = share_estimate(a, level), share_estimate(b, level)
    x, y = _by_row(a), _by_row(b)
    spread = x.std(correction=0) * y.std(correction=0)
    covariance = ((x * y).mean() - x.mean() * y.mean()).item()
    if covariance > 0:
        covariance = max(0.0, covariance - 0.5 / n)
    phi = covariance / spread.item() if spread > 0 else 0.0
    low = _reach(p.value - p.low, q.high - q.value, phi)
    high = _reach(p.high - p.value, q.value - q.low, phi)
    difference, error = p.value - q.value, (x - y).std(correction=0).item() / math.sqrt(n)
    return Estimate(difference, difference - low, difference + high, error, level, n, "newcombe")


def _reach(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def _by_row(outcomes: Tensor) -> Tensor:
    return outcomes.double().reshape(len(outcomes), -1).mean(dim=1)
