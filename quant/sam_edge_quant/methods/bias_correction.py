"""Empirical bias correction (arXiv 1906.04721, section 4.2 and appendix D): rounding must not shift a layer's mean.

The errors of an output's weights add up to a shift wherever the inputs have a mean, most of all in depthwise
convolutions after a ReLU, with nine weights and inputs that are never negative. The shift is known, `(W - W') E[x]`,
and is added to the bias. Not exact in fp32: it makes up for rounded weights and belongs to a quantized network only.
"""

from __future__ import annotations

from sam_edge_runtime.arrays import Float64


def correction(weight: Float64, rounded: Float64, mean: Float64) -> Float64:
    """What to add to the bias, `(outputs)`.

    Args:
        weight: `(outputs, inputs)`, or `(groups, outputs, inputs)` for a grouped convolution.
        rounded: the same after rounding.
        mean: `(inputs)` or `(groups, inputs)`, the inputs' means in calibration, zero padding included.
    """
    shift: Float64 = ((weight - rounded) @ mean[..., None])[..., 0]
    return shift
