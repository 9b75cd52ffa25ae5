"""PTQ4SAM's bimodal integration (arXiv 2405.03144, section 3.2): keys with two peaks are folded into one.

In SAM's decoder the channels of a key projection's output lie around values of either sign, so that the whole tensor
has a peak on both sides of zero and spans twice what each channel does. A channel whose mean is negative is given the
other sign, in the rows of the key's *and* the query's weight and bias: their products stay the same to the last bit.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Float64


def choose_signs(low: Float64, high: Float64, mean: Float64) -> Float64:
    """Signs `(channels)` for the outputs of a key projection; all 1 where they would not narrow the tensor's range.

    Args:
        low: `(channels)` smallest values of the keys in calibration.
        high: `(channels)` largest values.
        mean: `(channels)` mean values.
    """
    signs = np.where(mean < 0, -1.0, 1.0)
    return signs if span(low, high, signs) < span(low, high, np.ones_like(signs)) else np.ones_like(signs)


def span(low: Float64, high: Float64, signs: Float64) -> float:
    """Width of the range of all channels and zero, each channel with its sign."""
    ends = np.stack([low * signs, high * signs])
    return float(max(ends.max(), 0.0) - min(ends.min(), 0.0))


def signed_outputs(parameter: Float64, signs: Float64) -> Float64:
    """A weight `(outputs, ...)` or bias `(outputs)` with the sign of each output changed where `signs` is -1."""
    return parameter * signs.reshape(-1, *[1] * (parameter.ndim - 1))
