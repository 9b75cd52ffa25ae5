"""Empirical bias correction: "Data-Free Quantization Through Weight Equalization and Bias Correction".

Nagel et al., arXiv 1906.04721, section 4.2 and appendix D. Rounding errors of an output's weights add up to a shift of
its mean wherever the inputs have a mean; most of all in depthwise convolutions after a ReLU, with nine weights and
inputs that are never negative. The shift `(W - W') E[x]` is known from calibration and is added to the bias.

Here as in the paper's appendix the means are measured, not derived from batch normalization. Not exact in fp32: the
correction makes up for rounded weights and belongs to a quantized network only.
"""

from __future__ import annotations

from sam_edge_runtime.arrays import Float64


def correction(weight: Float64, rounded: Float64, mean: Float64) -> Float64:
    """The number to add to the bias of each output, `(outputs)` or `(groups, outputs)`.

    Args:
        weight: `(outputs, inputs)`, or `(groups, outputs, inputs)` for a grouped convolution.
        rounded: the same after rounding.
        mean: `(inputs)` or `(groups, inputs)`, means of the inputs in calibration, zero padding included.
    """
    shift: Float64 = ((weight - rounded) @ mean[..., None])[..., 0]
    return shift
