"""Interpolation along one axis, as torch's `interpolate` computes it without aligned corners and without antialiasing.

Source positions are float32, as torch computes them for float32 tensors (ATen/native/UpSample.h,
`area_pixel_compute_source_index`). Product and subtraction are rounded once, because torch's kernels for AVX2 and newer
fuse them. Rounding twice would move a pixel near position 1000 by 3e-5, and its logit by 3e-5 of the slope.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Float64, Int64

CUBIC = -0.75  # torch's parameter `a` of Keys' cubic convolution
_TAPS = 4


def bilinear_weights(inputs: int, outputs: int) -> tuple[Int64, Int64, Float32]:
    """The two inputs of each output: index of the lower one, of the upper one, and the upper one's weight."""
    position = np.maximum(_positions(inputs, outputs), np.float32(0))
    lower = np.minimum(position.astype(np.int64), inputs - 1)
    upper = np.minimum(lower + 1, inputs - 1)
    return lower, upper, np.clip(position - lower.astype(np.float32), np.float32(0), np.float32(1))


def bilinear(inputs: int, outputs: int) -> Float64:
    """The matrix (outputs, inputs) of bilinear interpolation."""
    lower, upper, weight = bilinear_weights(inputs, outputs)
    matrix = np.zeros((outputs, inputs))
    rows = np.arange(outputs)
    matrix[rows, lower] = 1 - weight.astype(np.float64)
    matrix[rows, upper] += weight  # at the last input both are the same
    return matrix


def bicubic(inputs: int, outputs: int) -> Float64:
    """The matrix (outputs, inputs) of bicubic interpolation; beyond an edge, inputs repeat the one at the edge."""
    position = _positions(inputs, outputs)
    first = np.floor(position)
    offset = (position - first).astype(np.float64)
    matrix = np.zeros((outputs, inputs))
    rows = np.arange(outputs)
    for tap, distance in enumerate((1 + offset, offset, 1 - offset, 2 - offset)):
        place = np.clip(first.astype(np.int64) + tap - _TAPS // 2 + 1, 0, inputs - 1)
        np.add.at(matrix, (rows, place), _keys(distance))
    return matrix


def _keys(distance: Float64) -> Float64:
    """Keys' kernel (doi 10.1109/TASSP.1981.1163711) at a distance of 0 to 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return np.where(distance <= 1, near, far)


def _positions(inputs: int, outputs: int) -> npt.NDArray[np.float32]:
    """The position of each output among the inputs, in inputs."""
    scale = np.float64(np.float32(inputs) / np.float32(outputs))
    # In float64 the product of two float32 numbers is exact, so the one rounding is the cast.
    return np.asarray(scale * (np.arange(outputs) + 0.5) - 0.5, np.float32)
