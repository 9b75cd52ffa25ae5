"""Weights as whole numbers, rounded so that each channel's sum stays.

Rounding every weight to the nearest whole number leaves a channel's sum of errors to chance. What a layer reads is
mostly of one sign, after ReLU, or alike in neighbouring places, under a depthwise kernel; then that sum is what its
answer is off by. So those few weights that came nearest to being rounded the other way are, until the sum of errors is
less than a half. This is the step by channels of SQuant (arXiv 2202.07471), which needs no data; its step by kernels
gained nothing here.

Where a channel's weights lie on a grid already, because the model was trained in eight bits (`sam-edge train`, phases
with `eight_bits`), that grid is taken, and nothing is rounded at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TOP = 127  # the largest whole number of eight bits, and as many below zero
TRAINED = 64  # the largest whole number of the grids that training in eight bits rounds to
_OFF_GRID = 0.07  # of a step: float16 puts a number of 64 steps, and the largest that it is measured by, 0.03 off each


def steps_of(weight: Array, levels: int = TOP, *, paired: bool = False) -> npt.NDArray[np.float64]:
    """The step of each channel's grid.

    Args:
        weight: (channels, ...), each channel's numbers in the order in which they are summed up.
        levels: whole numbers to either side of zero.
        paired: whether products of neighbouring weights are added in sixteen bits, and must not overflow there.

    Returns:
        (channels,); 1 for a channel without weights.
    """
    rows = np.asarray(weight, np.float64).reshape(len(weight), -1)
    largest = np.abs(rows).max(axis=1)
    steps = largest / levels
    if paired:
        even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        pairs = even.reshape(len(even), -1, 2)
        # Only weights of one sign add up. Two units of the 128 are for rounding.
        together = np.maximum(pairs.clip(min=0).sum(axis=2), -pairs.clip(max=0).sum(axis=2)).max(axis=1)
        steps = np.maximum(steps, together / (TOP - 1))
    if levels >= TRAINED:  # two of these add up to 128, and none is to be rounded
        steps = np.where(on_trained_grid(rows), largest / TRAINED, steps)
    return np.where(steps > 0, steps, 1.0)


def on_trained_grid(rows: Array) -> npt.NDArray[np.bool_]:
    """Which channels of a weight (channels, weights) are multiples of 1/64 of their largest number.

    That of a few weights may be so by chance; then it loses little.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True)
    numbers = rows * (TRAINED / np.where(largest > 0, largest, 1.0))
    return np.asarray(np.abs(numbers - np.rint(numbers)).max(axis=1) < _OFF_GRID)


def rounded(weight: Array, scales: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.int8]:
    """A weight in whole numbers of its scales, of the same shape.

    Args:
        weight: of any shape.
        scales: (channels,), each at least 1/127 of its channel's largest weight.
        axis: which of the weight's axes counts the channels.
    """
    moved = np.moveaxis(weight, axis, 0)
    exact = moved.reshape(len(scales), -1) / scales[:, None]
    numbers = np.rint(exact)
    errors = numbers - exact
    excess = np.rint(errors.sum(axis=1)).astype(int)
    for channel in np.flatnonzero(excess):
        count, direction = abs(excess[channel]), np.sign(excess[channel])
        nearest = np.argpartition(-direction * errors[channel], count - 1)[:count]
        numbers[channel, nearest] -= direction
    numbers = np.clip(numbers, -TOP, TOP).astype(np.int8)
    return np.moveaxis(numbers.reshape(moved.shape), 0, axis)
