"""Changes of weights that make a network easier to quantize: one module a paper, in numpy.

`smoothquant`, `cross_layer` and `bimodal` are exact: the fp32 network computes the same, up to rounding. `gptq`,
`squant` and `bias_correction` are not: they change weights and biases so that the *quantized* network computes more
nearly what the fp32 one did, and belong to the quantized artifact only.

Weights are arrays `(outputs, channels, taps)`: a linear layer has one tap, a convolution as many as its kernel. Each
output of a weight has its own scale; the activations of a tensor share one.
"""

from __future__ import annotations

from . import bias_correction, bimodal, cross_layer, gptq, smoothquant, squant
from .channel_scales import Choice, Reader, choose_scales

__all__ = [
    "Choice",
    "Reader",
    "bias_correction",
    "bimodal",
    "choose_scales",
    "cross_layer",
    "gptq",
    "smoothquant",
    "squant",
]
