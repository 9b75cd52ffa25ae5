"""Bimodal integration: "PTQ4SAM: Post-Training Quantization for Segment Anything".

Lv et al., arXiv 2405.03144, section 3.2. In SAM's decoder the channels of a key projection's output lie around values
of either sign, so the tensor has a peak on both sides of zero and spans twice the range of a single channel. A channel
with a negative mean is negated, in the rows of the key's *and* the query's weight and bias: their products stay the
same to the last bit.

The paper finds bimodal tensors by counting peaks of a density; here signs are changed wherever that narrows the
tensor's range.
"""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Float64


def choose_signs(low: Float64, high: Float64, mean: Float64) -> Float64:
    """Signs `(channels)` for the outputs of a key projection; all 1 if they would not narrow the tensor's range.

    Args:
        low: `(channels)` smallest values of the keys in calibration.
        high: `(channels)` largest values.
        mean: `(channels)` mean values.
    """
    signs = np.where(mean < 0, -1.0, 1.0)
    return signs if span(low, high, signs) < span(low, high, np.ones_like(signs)) else np.ones_like(signs)


def span(low: Float64, high: Float64, signs: Float64) -> float:
    """Width of the range that holds zero and all channels, each multiplied by its sign."""
    ends = np.stack([low * signs, high * signs])
    return float(max(ends.max(), 0.0) - min(ends.min(), 0.0))


def signed_outputs(parameter: Float64, signs: Float64) -> Float64:
    """A weight `(outputs, ...)` or bias `(outputs)`, with those outputs negated whose sign is -1."""
    return parameter * signs.reshape(-1, *[1] * (parameter.ndim - 1))
