"""GPTQ (arXiv 2210.17323): weights are rounded one input at a time, and later ones make up for the error so far.

To the nearest is not the best way to round a weight, since inputs are correlated. With the second moments `H` of a
layer's inputs, the error that one more column's rounding makes in what the layer computes is undone as far as possible
in the columns still free, by a row of the Cholesky factor of `H^-1` (algorithm 1, columns in order of falling
diagonal). With the covariance in place of `H` the mean is left to the bias, which costs nothing (`bias`).

The result is floats on the grid of a symmetric quantizer, step `max|w| / levels` for each output. The largest weight of
an output is kept bit by bit, so the quantizer finds the same step and keeps every weight. Levels of either sign: 127
for int8, 64 for ONNX Runtime's `reduce_range`, 7 for int4. Not exact in fp32.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Float64

DAMPING = 0.01  # of the mean diagonal, as in the paper (section 3.3)
BLOCK = 128  # columns after which the others are brought up to date, for speed alone


def round_to_nearest(weight: Float64, steps: Float64) -> Float64:
    """A weight `(..., outputs, inputs)` on the grids with `steps (..., outputs)`."""
    rounded: Float64 = np.rint(weight / steps[..., None]) * steps[..., None]
    return rounded


def round_compensating(weight: Float64, moments: Float64, steps: Float64, levels: int) -> Float64:
    """A weight on its grids, rounded so that what the layer computes changes little.

    Args:
        weight: `(groups, outputs, inputs)`; one group but for a grouped convolution.
        moments: `(groups, inputs, inputs)` covariance, or second moments, of the inputs.
        steps: `(groups, outputs)` of the grids.
        levels: of either sign.
    """
    inputs = weight.shape[2]
    diagonal = np.diagonal(moments, axis1=1, axis2=2)
    order = np.argsort(-diagonal, axis=1, kind="stable")  # (groups, inputs)
    rest = np.take_along_axis(weight, order[:, None], axis=2) / steps[..., None]  # takes up the errors, in steps
    ordered = np.take_along_axis(np.take_along_axis(moments, order[:, None], axis=2), order[..., None], axis=1)
    damping = DAMPING * diagonal.mean(axis=1)
    damping[damping <= 0] = 1.0  # inputs that never change: nothing to make up for
    factor = np.linalg.cholesky(np.linalg.inv(ordered + damping[:, None, None] * np.eye(inputs)))
    factor = factor.transpose(0, 2, 1)  # upper; H^-1 = factor^T factor
    nearest = np.rint(rest)
    largest = np.abs(rest) > levels - 1e-9
    codes = np.empty_like(rest)
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        errors = np.empty((*rest.shape[:2], stop - start))
        for index in range(start, stop):
            code = np.clip(np.rint(rest[..., index]), -levels, levels)
            codes[..., index] = np.where(largest[..., index], nearest[..., index], code)
            error = (rest[..., index] - codes[..., index]) / factor[:, None, index, index]
            rest[..., index + 1 : stop] -= error[..., None] * factor[:, None, index, index + 1 : stop]
            errors[..., index - start] = error
        rest[..., stop:] -= errors @ factor[:, start:stop, stop:]
    back = np.argsort(order, axis=1)[:, None]
    rounded = np.take_along_axis(codes, back, axis=2) * steps[..., None]
    return np.where(np.take_along_axis(largest, back, axis=2), weight, rounded)
