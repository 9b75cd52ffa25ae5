"""Quantization scales of weights, one for each output channel.

`symmetric_scales` are those of a symmetric quantizer: the largest weight over the number of levels. A channel whose
weights are multiples of a scale already keeps it, so that nothing is rounded a second time:

- `qat_scales` finds the scales that quantization-aware training (`sam-edge train`, phases with `fake_quant`) rounds to.
  They have few significant bits, so `symmetric_scales` recognizes them without mistaking ordinary weights for them.
- `exact_scales` finds the scale of a channel that any method has rounded, and `preserved_scales` takes it where there
  is one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array, Float64

INT8_MAX = 127  # levels of either sign of a symmetric INT8 weight
QAT_MAX = 64  # levels of either sign that quantization-aware training rounds to
# Significant bits of a quantization-aware scale. With the 6 of an integer below 64 they make the 11 of a float16, so
# that rounded weights are exact in half precision too.
SCALE_BITS = 5
_OFF_GRID = 1e-3  # of a scale


def symmetric_scales(weight: Array, levels: int = INT8_MAX, *, avoid_saturation: bool = False) -> Float64:
    """The scale of each channel: its largest weight over `levels`, or the scale it was trained with (`qat_scales`).

    Args:
        weight: (channels, ...), each channel's weights in the order in which a kernel sums their products.
        levels: of either sign.
        avoid_saturation: whether the kernel adds products of neighbouring weights in 16 bits, which must not overflow.

    Returns:
        (channels,); 1 for a channel whose weights are all zero.
    """
    rows = _rows(weight)
    scales = np.abs(rows).max(axis=1) / levels
    if avoid_saturation:
        even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        pairs = even.reshape(len(even), -1, 2)
        # Only weights of one sign add up. Two units of the 128 are for rounding.
        together = np.maximum(pairs.clip(min=0).sum(axis=2), -pairs.clip(max=0).sum(axis=2)).max(axis=1)
        scales = np.maximum(scales, together / (INT8_MAX - 1))
    if levels >= QAT_MAX:  # two weights of 64 add up to 128, and none is to be rounded
        trained = qat_scales(weight)
        scales = np.where(trained > 0, trained, scales)
    return np.where(scales > 0, scales, 1.0)


def preserved_scales(weight: Array, *, avoid_saturation: bool = False) -> Float64:
    """As `symmetric_scales`, but a channel that has an exact scale keeps it, whatever rounded it.

    With `avoid_saturation` it does not keep a scale by which neighbours would overflow.
    """
    exact, scales = exact_scales(weight), symmetric_scales(weight, avoid_saturation=avoid_saturation)
    return np.where(exact >= scales * (1 - 1e-6), exact, scales)


def exact_scales(weight: Array) -> Float64:
    """The largest scale of which all of a channel's weights are integer multiples, at most 127 of either sign.

    Unlike `qat_scales`, this finds the scale of a part of a channel too, without the channel's largest weights.

    Args:
        weight: (channels, ...).

    Returns:
        (channels,); 0 for a channel without such a scale. A channel of a few weights may have one by chance.
    """
    rows = _rows(weight)
    few, largest = rows[:, :16], np.abs(rows).max(axis=1)  # a few weights rule out most candidates
    found = np.zeros(len(rows))
    for multiple in range(INT8_MAX, 0, -1):  # the largest weight's; the largest scale comes last and stays
        scales = largest / multiple
        left = np.flatnonzero((scales > 0) & _are_multiples(few, np.where(scales > 0, scales, 1.0)))
        left = left[_are_multiples(rows[left], scales[left])]
        found[left] = scales[left]
    return found


def qat_scales(weight: Array) -> Float64:
    """The scales to which quantization-aware training has rounded the channels of a weight (channels, ...).

    Returns:
        (channels,); 0 for a channel that it has not rounded. A channel of a few weights may be on such a grid by
        chance; then it loses little.
    """
    rows = _rows(weight)
    found = np.zeros(len(rows))
    first = qat_scales_for(np.abs(rows).max(axis=1))
    # The largest weight was itself rounded, perhaps down to where the next smaller scale applies.
    for scales in (qat_scales_for(first * (QAT_MAX + 1)), first):
        divisors = np.where(scales > 0, scales, 1.0)
        fits = _are_multiples(rows, divisors) & (np.abs(rows).max(axis=1) > QAT_MAX / 2 * divisors)
        found = np.where(fits, scales, found)
    return found


def qat_scales_for(largest: Array) -> Float64:
    """Scales that quantization-aware training takes for channels with these largest weights.

    1/64 of the largest weight, rounded up to `SCALE_BITS` significant bits.
    """
    mantissa, exponent = np.frexp(np.asarray(largest, np.float64) / QAT_MAX)
    return np.asarray(np.ldexp(np.ceil(mantissa * 2**SCALE_BITS) / 2**SCALE_BITS, exponent))


def has_qat_scales(weight: Array) -> npt.NDArray[np.bool_]:
    """Which channels of a weight (channels, ...) quantization-aware training has rounded; channels of zeros count."""
    return np.asarray((qat_scales(weight) > 0) | ~_rows(weight).any(axis=1))


def _are_multiples(rows: Float64, scales: Float64) -> npt.NDArray[np.bool_]:
    """Which rows hold integer multiples of their scale only."""
    multiples = rows / scales[:, None]
    return np.asarray(np.abs(multiples - np.rint(multiples)).max(axis=1) < _OFF_GRID)


def _rows(weight: Array) -> Float64:
    """A weight `(channels, ...)` as (channels, weights)."""
    return np.asarray(weight, np.float64).reshape(len(weight), -1)
