"""GPTQ: "Accurate Post-Training Quantization for Generative Pre-trained Transformers".

Frantar et al., arXiv 2210.17323, section 3 and algorithm 1. Inputs of a layer are correlated, so rounding each weight
to the nearest is not best. Weights are rounded one input at a time. With the second moments `H` of the layer's inputs,
the columns still free undo as much as possible of the error so far, by a row of the Cholesky factor of `H^-1`.

Three differences. Columns come in order of falling diagonal (`act-order` in the authors' code). A caller may pass the
covariance in place of `H`, which leaves the mean to the bias (`bias_correction`) at no cost. And the result is floats
on the grid of a symmetric quantizer with the scale `max|w| / levels` for each output: the largest weight of an output
is kept bit by bit, so a target's own quantizer finds the same scale and keeps every weight. Levels of either sign are
127 for int8, 64 for ONNX Runtime's `reduce_range`, 7 for int4; `round_in_blocks` is for ONNX's int4. Not exact in fp32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64

DAMPING = 0.01  # of the mean diagonal, as in the paper (section 3.3)
BLOCK = 128  # columns after which the others are brought up to date, for speed alone


def round_to_nearest(weight: Float64, scales: Float64) -> Float64:
    """A weight `(..., outputs, inputs)`, rounded to multiples of `scales (..., outputs)`."""
    rounded: Float64 = np.rint(weight / scales[..., None]) * scales[..., None]
    return rounded


def round_compensating(weight: Float64, moments: Float64, scales: Float64, levels: int) -> Float64:
    """A weight on its quantization grid, rounded so that the layer's output changes little.

    Args:
        weight: `(groups, outputs, inputs)`; one group unless it is a grouped convolution's.
        moments: `(groups, inputs, inputs)` covariance, or second moments, of the inputs.
        scales: `(groups, outputs)`.
        levels: of either sign.
    """
    order, factor = _order_and_factor(moments)
    ordered = np.take_along_axis(weight, order[:, None], axis=2) / scales[..., None]  # in scales
    nearest = np.rint(ordered)
    largest = np.abs(ordered) > levels - 1e-9

    def on_grid(index: int, column: Float64) -> Float64:
        return np.where(largest[..., index], nearest[..., index], np.clip(np.rint(column), -levels, levels))

    codes = _rounded(ordered, factor, on_grid)
    back = np.argsort(order, axis=1)[:, None]
    rounded = np.take_along_axis(codes, back, axis=2) * scales[..., None]
    return np.where(np.take_along_axis(largest, back, axis=2), weight, rounded)


def round_in_blocks(weight: Float64, moments: Float64, block: int, levels: int = 15) -> Float64:
    """A weight on the grid of a quantizer with a scale and a zero point for each block, rounded as above.

    The grid is that of ONNX Runtime's `MatMulNBits`: a block's scale is its range, with zero inside, over `levels`. The
    ends of each range keep their place, so that the quantizer finds the same scale and zero point.

    Args:
        weight: `(outputs, inputs)`.
        moments: `(inputs, inputs)`, as above.
        block: inputs of a block; the last one may have fewer.
        levels: the largest code; the smallest is 0.
    """
    inputs = weight.shape[1]
    codes_of_ends = np.full(weight.shape, -1.0)  # -1: not an end
    scales, zeros = np.ones_like(weight), np.zeros_like(weight)
    rows = np.arange(len(weight))
    for start in range(0, inputs, block):
        part = weight[:, start : start + block]
        low, high = np.minimum(part.min(axis=1), 0.0), np.maximum(part.max(axis=1), 0.0)
        scale = np.where(high > low, high - low, levels) / levels
        scales[:, start : start + block] = scale[:, None]
        zeros[:, start : start + block] = np.rint(-low / scale)[:, None]
        for code, places, reaches in ((0, part.argmin(axis=1), low < 0), (levels, part.argmax(axis=1), high > 0)):
            codes_of_ends[rows[reaches], start + places[reaches]] = code
    (order,), factor = _order_and_factor(moments[None])
    ordered, scales, zeros, ends = (array[:, order] for array in (weight, scales, zeros, codes_of_ends))

    def on_grid(index: int, column: Float64) -> Float64:
        codes = np.clip(np.rint(column / scales[:, index]) + zeros[:, index], 0, levels)
        codes = np.where(ends[:, index] >= 0, ends[:, index], codes)
        return (codes - zeros[:, index]) * scales[:, index]

    back: Float64 = _rounded(ordered[None], factor, on_grid)[0][:, np.argsort(order)]
    return back


def _rounded(weight: Float64, factor: Float64, on_grid: Callable[[int, Float64], Float64]) -> Float64:
    """Round column after column; those still free undo the error so far.

    Args:
        weight: `(groups, outputs, inputs)` in the order of `factor`.
        factor: from `_order_and_factor`.
        on_grid: the places on the grid for a column's index and its values `(groups, outputs)`.
    """
    inputs = weight.shape[2]
    rest, rounded = weight.copy(), np.empty_like(weight)  # `rest` absorbs the errors
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        errors = np.empty((*rest.shape[:2], stop - start))
        for index in range(start, stop):
            rounded[..., index] = on_grid(index, rest[..., index])
            error = (rest[..., index] - rounded[..., index]) / factor[:, None, index, index]
            rest[..., index + 1 : stop] -= error[..., None] * factor[:, None, index, index + 1 : stop]
            errors[..., index - start] = error
        rest[..., stop:] -= errors @ factor[:, start:stop, stop:]
    return rounded


def _order_and_factor(moments: Float64) -> tuple[npt.NDArray[np.intp], Float64]:
    """The order of the inputs `(groups, inputs)`, and the upper factor of the inverse of their damped moments."""
    diagonal = np.diagonal(moments, axis1=1, axis2=2)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    ordered = np.take_along_axis(np.take_along_axis(moments, order[:, None], axis=2), order[..., None], axis=1)
    damping = DAMPING * diagonal.mean(axis=1)
    damping[damping <= 0] = 1.0  # inputs that are always zero: nothing to compensate
    factor = np.linalg.cholesky(np.linalg.inv(ordered + damping[:, None, None] * np.eye(moments.shape[1])))
    return order, factor.transpose(0, 2, 1)  # H^-1 = factor^T factor
