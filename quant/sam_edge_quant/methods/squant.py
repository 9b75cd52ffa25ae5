"""SQuant: "On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation".

Guo et al., arXiv 2202.07471, algorithms 1 and 2. Rounding every weight to the nearest integer leaves a channel's sum of
errors to chance. A layer's inputs mostly have one sign (after ReLU) or are alike in neighbouring places (under a
depthwise kernel). Then that sum is the error of its output. So the weights that were nearest to being rounded in the
other direction are, until the sum of errors is below a half.

This is the paper's channel-wise stage, which needs no data. Its kernel-wise stage gained nothing here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array, Float32

from .weight_scales import INT8_MAX


def round_preserving_sums(weight: Array, scales: Float32, axis: int) -> npt.NDArray[np.int8]:
    """A weight in integer multiples of its scales, of the same shape.

    Args:
        weight: of any shape.
        scales: (channels,), each at least 1/127 of its channel's largest weight.
        axis: the weight's axis of channels.
    """
    moved = np.moveaxis(weight, axis, 0)
    exact = moved.reshape(len(scales), -1) / scales[:, None]
    integers = np.rint(exact)
    errors = integers - exact
    excess = np.rint(errors.sum(axis=1)).astype(int)
    for channel in np.flatnonzero(excess):
        count, direction = abs(excess[channel]), np.sign(excess[channel])
        nearest = np.argpartition(-direction * errors[channel], count - 1)[:count]
        integers[channel, nearest] -= direction
    integers = np.clip(integers, -INT8_MAX, INT8_MAX).astype(np.int8)
    return np.moveaxis(integers.reshape(moved.shape), 0, axis)
