"""Scales for the channels that one layer writes and others read, chosen by the expected quantization noise.

Rounding to a grid with scale `d` adds noise of variance `d^2 / 12` (Widrow and Kollar, "Quantization Noise", 2008). A
layer that reads channels divided by `s`, with weights multiplied by `s`, has two sources of it: the widest channel sets
the scale of the activations, the largest weight of an output that of its weights. A number that narrows a channel
enlarges its weights. So the published formulas have an exponent, the migration strength, that balances the two. The
best one differs from layer to layer: here the one with the least expected noise is taken, and no scales where none
helps.

Correlations between channels are left out: expected noise ranks candidates and predicts no accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam_edge_runtime.arrays import Float64

ACTIVATION_LEVELS = 255  # intervals of an asymmetric INT8 range
WEIGHT_LEVELS = 127  # of either sign
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Of the median scale. A channel that was quiet in calibration may be loud on other photos; without a limit it would
# set the range then.
SMALLEST_SCALE = 0.25
SMALLEST_GAIN = 0.01  # of the noise; for less, nothing is changed


@dataclass(frozen=True)
class Reader:
    """A layer with constant weights, and statistics of its inputs in calibration.

    Attributes:
        weight: `(outputs, channels, taps)`.
        low: `(channels)` smallest values.
        high: `(channels)` largest values.
        power: `(channels)` means of squares.
    """

    weight: Float64
    low: Float64
    high: Float64
    power: Float64

    @property
    def peaks(self) -> Float64:
        """Largest absolute value of each channel, `(channels)`."""
        peaks: Float64 = np.maximum(np.abs(self.low), np.abs(self.high))
        return peaks


@dataclass(frozen=True)
class Choice:
    """The chosen scales.

    Attributes:
        scales: `(channels)` by which activations are divided and weights multiplied; all 1 where nothing helps.
        strength: the exponent that gives them; None where nothing helps.
        before: expected noise without them, relative to the signal, summed over the readers.
        after: expected noise with them.
    """

    scales: Float64
    strength: float | None
    before: float
    after: float


def choose_scales(readers: Sequence[Reader]) -> Choice:
    """The scales with the least expected noise for layers that read the same channels."""
    activations = np.max([reader.peaks for reader in readers], axis=0)
    weights = np.max([np.abs(reader.weight).max(axis=(0, 2)) for reader in readers], axis=0)
    same = np.ones_like(activations)
    before = sum(expected_noise(reader, same) for reader in readers)
    best = Choice(same, None, before, before)
    for strength in STRENGTHS:
        scales = balancing_scales(activations, weights, strength)
        after = sum(expected_noise(reader, scales) for reader in readers)
        if after < min(best.after, (1.0 - SMALLEST_GAIN) * before):
            best = Choice(scales, strength, before, after)
    return best


def balancing_scales(activations: Float64, weights: Float64, strength: float) -> Float64:
    """`activations^a / weights^(1-a)`: SmoothQuant's equation 4 and, with `a = 1/2`, cross-layer equalization's 11.

    Args:
        activations: `(channels)` largest absolute values of the inputs.
        weights: `(channels)` largest absolute weights that read them.
        strength: `a`, from 0 to 1; at 1 all channels get the same range.

    Returns:
        Scales `(channels)`, with a mean of 0 in logarithms. A channel without values or weights has the median.
    """
    used = (activations > 0) & (weights > 0)
    if not used.any():
        return np.ones_like(activations)
    scales = np.zeros_like(activations)
    scales[used] = strength * np.log(activations[used]) - (1.0 - strength) * np.log(weights[used])
    scales[~used] = median = np.median(scales[used])
    scales = np.maximum(scales, median + np.log(SMALLEST_SCALE))
    centred: Float64 = np.exp(scales - scales.mean())
    return centred


def expected_noise(reader: Reader, scales: Float64) -> float:
    """Variance of the noise in a layer's output, relative to the output's power; 0 for a layer whose output is zero.

    Args:
        reader: the layer.
        scales: `(channels)` by which activations are divided and weights multiplied.
    """
    weight = np.abs(reader.weight) * scales[:, None]
    from_activations = activation_scale(reader, scales) ** 2 * float(np.square(weight).sum())
    weight_scales = weight.max(axis=(1, 2)) / WEIGHT_LEVELS  # (outputs)
    rounded = (weight > 0).sum(axis=2)  # (outputs, channels); a weight of zero stays zero
    from_weights = float(np.square(weight_scales) @ (rounded @ (reader.power / np.square(scales))))
    power = float((np.square(reader.weight).sum(axis=(0, 2)) * reader.power).sum())
    return (from_activations + from_weights) / (12.0 * power) if power > 0 else 0.0


def activation_scale(reader: Reader, scales: Float64) -> float:
    """The quantization scale that all channels share once each is divided by its own; the range holds zero."""
    high, low = float((reader.high / scales).max()), float((reader.low / scales).min())
    return (max(high, 0.0) - min(low, 0.0)) / ACTIVATION_LEVELS
