"""Train one small ReLU network with dropout, in one compiled loop that does not hold the GIL.

With 32 rows and 50 units a step of PyTorch is nearly all dispatch. This loop does the same
arithmetic about ten times faster, so that all splits of a data set can be trained side by side
in threads. It holds nothing but the arithmetic: `training.py` gives it arrays and makes
an `nn.Module` of what comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["n_weights", "train"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

_compiled: Callable[[F], F] = njit(nogil=True, cache=True)
# Lets sums be reordered, so that loops over units become vector instructions.
_compiled_fast: Callable[[F], F] = njit(nogil=True, cache=True, fastmath=True)

# Of Adam, as in Kingma & Ba (2015) and Keras.
_FIRST, _SECOND, _EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
# Bounds of a predicted log variance of the standardized target, against overflow.
_LOW, _HIGH = np.float32(-14.0), np.float32(6.0)
# The increment of SplitMix64, 2^64 divided by the golden ratio (Steele et al. 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@_compiled
def n_weights(sizes: Integers) -> int:
    """Return how many weights and biases a network of these layer widths has."""
    total = 0
    for layer in range(len(sizes) - 1):
        total += (sizes[layer] + 1) * sizes[layer + 1]
    return total


@_compiled
def _mixed(counter: np.uint64) -> np.uint64:
    """Return 64 random bits of a counter: the output function of SplitMix64."""
    z = counter
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_compiled
def _draw(state: np.uint64, rate: float, scale: Floats) -> np.uint64:
    """Fill `scale` with 0 at the dropout rate and 1 / (1 - rate) elsewhere; return the state."""
    if rate == 0:
        scale[:] = np.float32(1)
        return state
    kept = np.float32(1 / (1 - rate))
    threshold = np.uint64(rate * 4294967296.0)
    low = np.uint64(0xFFFFFFFF)
    half = len(scale) // 2
    # Two masks of 32 bits from every 64: the rate is exact to 2^-32.
    for i in range(half):
        bits = _mixed(state + np.uint64(i) * _GOLDEN)
        scale[2 * i] = kept if (bits & low) >= threshold else np.float32(0)
        scale[2 * i + 1] = kept if (bits >> np.uint64(32)) >= threshold else np.float32(0)
    if len(scale) % 2:
        bits = _mixed(state + np.uint64(half) * _GOLDEN)
        scale[2 * half] = kept if (bits & low) >= threshold else np.float32(0)
    return state + np.uint64(half + 1) * _GOLDEN


@_compiled
def _shuffle(state: np.uint64, order: Integers) -> np.uint64:
    """Put `order` into a random order (Fisher and Yates); return the state."""
    for i in range(len(order) - 1, 0, -1):
        state += _GOLDEN
        # The bias of the remainder is below 2^-40 for the sizes here.
        j = np.int64(_mixed(state) % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]
    return state


@_compiled_fast
def _adam(
    weights: Floats, gradient: Floats, first: Floats, second: Floats, step: int, rate: float
) -> None:
    """Take one step of Adam."""
    size = np.float32(rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step))
    for i in range(len(weights)):
        g = gradient[i]
        first[i] = _FIRST * first[i] + (np.float32(1) - _FIRST) * g
        second[i] = _SECOND * second[i] + (np.float32(1) - _SECOND) * g * g
        weights[i] -= size * first[i] / (np.sqrt(second[i]) + _EPSILON)


@_compiled_fast
def _activate(values: Floats, bias: Floats, scale: Floats, rectified: bool) -> None:
    """Add the bias, rectify and drop, in place; `scale` becomes the derivative of all three."""
    rows, units = values.shape
    for i in range(rows):
        for j in range(units):
            value = values[i, j] + bias[j]
            if rectified:
                slope = scale[i, j] if value > 0 else np.float32(0)
                scale[i, j] = slope
                value *= slope
            values[i, j] = value


@_compiled_fast
def _loss_gradient(out: Floats, y: Floats, beta: np.float32, gradient: Floats) -> None:
    """Write the gradient of the mean loss of a batch by the outputs.

    It is that of (y - m)^2, or with a log variance s beside the mean that of
    exp(beta s) (s + (y - m)^2 exp(-s)) / 2 with the first factor held (Seitzer et al. 2022).
    """
    rows = len(y)
    for i in range(rows):
        error = out[i, 0] - y[i]
        if out.shape[1] == 1:
            gradient[i, 0] = np.float32(2) * error / np.float32(rows)
            continue
        s = min(max(out[i, 1], _LOW), _HIGH)
        factor = np.exp(beta * s) / np.float32(rows)
        gradient[i, 0] = factor * error * np.exp(-s)
        gradient[i, 1] = factor * np.float32(0.5) * (np.float32(1) - error * error * np.exp(-s))
        # Outside its bounds the log variance is pulled back and nothing else.
        if out[i, 1] != s:
            gradient[i, 1] = (out[i, 1] - s) / np.float32(rows)


@_compiled
def _layer(weights: Floats, sizes: Integers, offsets: Integers, k: int) -> tuple[Floats, Floats]:
    """Return the matrix and the bias of a layer as views."""
    middle = offsets[k] + sizes[k] * sizes[k + 1]
    matrix = weights[offsets[k] : middle].reshape(sizes[k], sizes[k + 1])
    return matrix, weights[middle : offsets[k + 1]]


@_compiled
def _block(store: Floats, sizes: Integers, starts: Integers, k: int, rows: int) -> Floats:
    """Return the numbers of the batch before layer k, (rows, units), as a view."""
    return store[starts[k] : starts[k] + rows * sizes[k]].reshape(rows, sizes[k])


@_compiled
def _forward(
    weights: Floats,
    sizes: Integers,
    offsets: Integers,
    starts: Integers,
    rows: int,
    values: Floats,
    scales: Floats,
) -> None:
    """Run the batch through all layers; the inputs are in `values`, the masks in `scales`."""
    layers = len(sizes) - 1
    inputs = _block(values, sizes, starts, 0, rows)
    inputs *= _block(scales, sizes, starts, 0, rows)
    for k in range(layers):
        matrix, bias = _layer(weights, sizes, offsets, k)
        after = _block(values, sizes, starts, k + 1, rows)
        np.dot(_block(values, sizes, starts, k, rows), matrix, after)
        _activate(after, bias, _block(scales, sizes, starts, k + 1, rows), k + 1 < layers)


@_compiled
def _backward(
    weights: Floats,
    sizes: Integers,
    offsets: Integers,
    starts: Integers,
    rows: int,
    values: Floats,
    scales: Floats,
    errors: Floats,
    decay: float,
    gradient: Floats,
) -> None:
    """Write the gradient of loss and penalty; `errors` holds that by the outputs."""
    for k in range(len(sizes) - 2, -1, -1):
        matrix, _ = _layer(weights, sizes, offsets, k)
        by_matrix, by_bias = _layer(gradient, sizes, offsets, k)
        after = _block(errors, sizes, starts, k + 1, rows)
        np.dot(_block(values, sizes, starts, k, rows).T, after, by_matrix)
        by_matrix += np.float32(2 * decay) * matrix
        by_bias[:] = after.sum(axis=0)
        if k:
            below = _block(errors, sizes, starts, k, rows)
            np.dot(after, matrix.T, below)
            below *= _block(scales, sizes, starts, k, rows)


@_compiled
def train(
    X: Floats,
    y: Floats,
    sizes: Integers,
    weights: Floats,
    rates: Doubles,
    decay: float,
    epochs: int,
    batch: int,
    learning_rate: float,
    cosine: bool,
    beta: float,
    seed: np.uint64,
) -> None:
    """Train one network by Adam, in place.

    The loss is the mean over the batch of the squared error (one output), or of the negative
    log-likelihood (two outputs: mean and log variance), plus decay |W|^2 for the weights; biases
    are free. The last batch of an epoch may be smaller.

    Args:
        X: Standardized features, (N, D).
        y: Standardized targets, (N,).
        sizes: Widths from the inputs to the outputs.
        weights: All layers one after another, each W (inputs, units) and then its bias.
        rates: Dropout rate of the input of every layer.
        decay: Penalty of the squared weights.
        epochs: Passes over the rows.
        batch: Rows of a step.
        learning_rate: Of the first step.
        cosine: Let the learning rate fall to zero along a half cosine; else it is constant.
        beta: Exponent of the variance in the heteroscedastic loss, in [0, 1].
        seed: Of batches and masks.
    """
    n, layers = len(y), len(sizes) - 1
    offsets, starts = np.zeros(layers + 1, np.int64), np.zeros(layers + 2, np.int64)
    for k in range(layers + 1):
        starts[k + 1] = starts[k] + sizes[k] * batch
        if k < layers:
            offsets[k + 1] = offsets[k] + (sizes[k] + 1) * sizes[k + 1]
    values, scales = np.zeros(starts[-1], np.float32), np.zeros(starts[-1], np.float32)
    errors, gradient = np.zeros(starts[-1], np.float32), np.zeros_like(weights)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    order, target = np.arange(n), np.zeros(batch, np.float32)
    state, step = _mixed(np.uint64(seed)), 0
    steps = epochs * ((n + batch - 1) // batch)
    for _ in range(epochs):
        state = _shuffle(state, order)
        for begin in range(0, n, batch):
            rows = min(batch, n - begin)
            inputs = _block(values, sizes, starts, 0, rows)
            for i in range(rows):
                target[i] = y[order[begin + i]]
                inputs[i] = X[order[begin + i]]
            for k in range(layers):
                scale = scales[starts[k] : starts[k] + rows * sizes[k]]
                state = _draw(state, rates[k], scale)
            _forward(weights, sizes, offsets, starts, rows, values, scales)
            out = _block(values, sizes, starts, layers, rows)
            by_out = _block(errors, sizes, starts, layers, rows)
            _loss_gradient(out, target[:rows], np.float32(beta), by_out)
            _backward(
                weights, sizes, offsets, starts, rows, values, scales, errors, decay, gradient
            )
            step += 1
            rate = learning_rate
            if cosine:
                rate *= 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            _adam(weights, gradient, first, second, step, rate)
