"""SQuant (arXiv 2202.07471): weights rounded to integers so that each channel's sum of errors stays small.

Rounding every weight to the nearest integer leaves a channel's sum of errors to chance. A layer's inputs mostly have
one sign (after ReLU) or are alike in neighbouring places (under a depthwise kernel). Then that sum is the error of its
output. So the few weights that came nearest to being rounded the other way are rounded that way, until the sum of
errors is below a half. This is the paper's step by channels, which needs no data. Its step by kernels gained nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array

from .weight_scales import INT8_MAX


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
    numbers = np.clip(numbers, -INT8_MAX, INT8_MAX).astype(np.int8)
    return np.moveaxis(numbers.reshape(moved.shape), 0, axis)
