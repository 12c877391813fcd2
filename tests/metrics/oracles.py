"""Slow answers written with loops from the definitions, sharing no code with mcdrop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def crps_by_integral(samples: Vector, y: float) -> float:
    """Integral of (F(t) - 1[t >= y])^2 over the steps of the empirical F."""
    knots = sorted([*samples.tolist(), y])
    total = 0.0
    for left, right in itertools.pairwise(knots):
        height = sum(s <= left for s in samples) / len(samples) - (left >= y)
        total += (right - left) * height**2
    return total


def crps_by_pairs(samples: Vector, y: float, *, pairs: int) -> float:
    """E|X - y| less half the sum over all pairs."""
    distance = sum(abs(s - y) for s in samples) / len(samples)
    spread = sum(abs(s - t) for s in samples for t in samples)
    return distance - spread / (2 * pairs)


def energy_by_pairs(samples: Vector, y: Vector, *, pairs: int) -> float:
    """The same with Euclidean distances; samples (S, D), y (D,)."""
    distance = sum(math.dist(s, y) for s in samples) / len(samples)
    spread = sum(math.dist(s, t) for s in samples for t in samples)
    return distance - spread / (2 * pairs)


def mixture_nll(means: Vector, stds: Vector, y: float) -> float:
    """Minus the log of the average density."""
    densities = [
        math.exp(-0.5 * ((y - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        for m, s in zip(means, stds, strict=True)
    ]
    return -math.log(sum(densities) / len(densities))


def bin_rows(confidence: Sequence[float], n_bins: int) -> list[list[int]]:
    """Rows of each equal-width bin (a, b], 0 in the first."""
    bins: list[list[int]] = [[] for _ in range(n_bins)]
    for row, value in enumerate(confidence):
        for b in range(n_bins):
            low, high = b / n_bins, (b + 1) / n_bins
            if low < value <= high or (b == 0 and value == 0):
                bins[b].append(row)
    return bins


def equal_mass_rows(confidence: Sequence[float], n_bins: int) -> list[list[int]]:
    """Rows of each bin of the sorted rows, by NumPy's own split."""
    order = np.argsort(np.asarray(confidence), kind="stable")
    return [part.tolist() for part in np.array_split(order, n_bins)]


def calibration_error(
    confidence: Sequence[float], event: Sequence[float], bins: list[list[int]], norm: str
) -> float:
    """Expected calibration error from the rows of each bin."""
    terms, gaps = 0.0, [0.0]
    for rows in bins:
        if not rows:
            continue
        mean_confidence = sum(confidence[i] for i in rows) / len(rows)
        frequency = sum(event[i] for i in rows) / len(rows)
        gap = abs(mean_confidence - frequency)
        gaps.append(gap)
        terms += len(rows) / len(confidence) * (gap if norm == "l1" else gap**2)
    return {"l1": terms, "l2": math.sqrt(terms), "max": max(gaps)}[norm]


def top_label(probs: Vector, y: Any) -> tuple[list[float], list[float]]:
    """Confidence in the most probable class and whether it is right."""
    confidence = [float(max(row)) for row in probs]
    hits = [float(int(np.argmax(row)) == int(label)) for row, label in zip(probs, y, strict=True)]
    return confidence, hits


def smooth_calibration_error(forecast: Vector, event: Vector, *, cells: int = 4000) -> float:
    """Fixed point of the smoothed error: image points past 0 and 1, Riemann sum, bisection."""
    t = (np.arange(cells) + 0.5) / cells

    def smoothed_error(bandwidth: float) -> float:
        residual = np.zeros(cells)
        for f, y in zip(forecast, event, strict=True):
            for shift in range(-8, 9, 2):
                for image in (shift + f, shift - f):
                    z = (t - image) / bandwidth
                    density = np.exp(-0.5 * z**2) / (bandwidth * math.sqrt(2 * math.pi))
                    residual += (y - f) * density / len(forecast)
        return float(np.abs(residual).mean())

    low, high = 1e-3, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if smoothed_error(middle) > middle else (low, middle)
    return low


def risk_coverage(uncertainty: Vector, loss: Vector) -> list[tuple[float, float]]:
    """Coverage and risk at each distinct threshold, ascending."""
    points = []
    for threshold in sorted(set(uncertainty.tolist())):
        kept = [c for u, c in zip(uncertainty, loss, strict=True) if u <= threshold]
        points.append((len(kept) / len(loss), sum(kept) / len(kept)))
    return points


def auroc(score: Vector, label: Vector) -> float:
    """Share of pairs in order, ties half."""
    out = [s for s, positive in zip(score, label, strict=True) if positive]
    inside = [s for s, positive in zip(score, label, strict=True) if not positive]
    wins = sum((a > b) + 0.5 * (a == b) for a in out for b in inside)
    return wins / (len(out) * len(inside))


def binned_spread(
    variance: Vector, squared_error: Vector, bins: list[list[int]]
) -> list[tuple[int, float, float]]:
    """Rows, mean variance and mean squared error of each bin that has any."""
    return [
        (len(rows), float(np.mean(variance[rows])), float(np.mean(squared_error[rows])))
        for rows in bins
        if rows
    ]
