"""Changes of weights that make a network easier to quantize; one file a method, in numpy.

`smooth`, `cross_layer` and `bimodal` are exact: what the network computes in fp32 stays as it was, up to rounding.
`rounding` and `bias` are not: they change weights and biases so that the *quantized* network answers more as the fp32
one did, and belong to the artifact that is quantized.

Weights are arrays `(outputs, channels, taps)`: a linear layer has one tap, a convolution as many as its kernel. Every
output of a weight has its own grid; the activations of a tensor share one.
"""

from __future__ import annotations

from . import bias_correction as bias
from . import bimodal, cross_layer
from . import gptq as rounding
from . import smoothquant as smooth
from .channel_scales import Choice, Reader, choose_scales

__all__ = ["Choice", "Reader", "bias", "bimodal", "choose_scales", "cross_layer", "rounding", "smooth"]
