"""Weights as whole numbers, rounded so that each channel's sum stays.

Rounding every weight to the nearest whole number leaves a channel's sum of errors to chance. What a layer reads is
mostly of one sign, after ReLU, or alike in neighbouring places, under a depthwise kernel; then that sum is what its
answer is off by. So those few weights that came nearest to being rounded the other way are, until the sum of errors is
less than a half. This is the step by channels of SQuant (arXiv 2202.07471), which needs no data; its step by kernels
gained nothing here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TOP = 127  # the largest whole number of eight bits, and as many below zero


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
