"""Cross-layer equalization: "Data-Free Quantization Through Weight Equalization and Bias Correction".

Nagel et al., arXiv 1906.04721, section 4.1. Where only linear or positively homogeneous operations lie between layers
(additions, ReLU, resizing, attention's weighted sum), a channel may be divided by a positive scale in all layers that
write it and multiplied by it in all that read it. The network computes the same.

The paper's scale is `sqrt(r1 / r2)` (equation 11), from the ranges of both weights. Here every output of a weight has
its own quantization scale, which absorbs the channel's. So `r1` is the range of the activations in between, and the
exponent, one half in the paper, is the one with the least expected noise (`channel_scales`).

Equal ranges have a price: every channel then reaches the ends of the common range, and any of them may exceed it on
other photos. With min-max ranges of 20 photos the simulated INT8 decoder of nano lost 2 dB of its logits on another
data set's photos, while the encoder gained 0.3 dB. Calibrate with more photos, or widen the ranges, where it is used.

ReLU6 is not homogeneous, so MobileNetV2's wide channels stay as they are. The paper puts ReLU in its place, which is
another network. Scales with which calibration never reaches the 6 do not help either: with three photos, nano's fp32
embedding of other photos had an SNR of 21 dB afterwards.
"""

from __future__ import annotations

from sam_edge_runtime.arrays import Float64


def divided_outputs(parameter: Float64, scales: Float64) -> Float64:
    """A weight `(outputs, ...)` or bias `(outputs)` of a layer that writes the channels, divided by `scales`."""
    return parameter / scales.reshape(-1, *[1] * (parameter.ndim - 1))


def multiplied_inputs(weight: Float64, scales: Float64) -> Float64:
    """A weight `(outputs, channels, taps)` of a layer that reads the channels, multiplied by their `scales`."""
    return weight * scales[:, None]
