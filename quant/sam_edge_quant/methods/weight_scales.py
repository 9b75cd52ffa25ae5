"""Weights as whole numbers, rounded so that each channel's sum stays.

Rounding every weight to the nearest whole number leaves a channel's sum of errors to chance. What a layer reads is
mostly of one sign, after ReLU, or alike in neighbouring places, under a depthwise kernel; then that sum is what its
answer is off by. So those few weights that came nearest to being rounded the other way are, until the sum of errors is
less than a half. This is the step by channels of SQuant (arXiv 2202.07471), which needs no data; its step by kernels
gained nothing here.

Where a channel's weights lie on a grid already, because the model was trained in eight bits (`sam-edge train`, phases
with `eight_bits`), that grid is taken, and nothing is rounded at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array

INT8_MAX = 127  # the largest whole number of eight bits, and as many below zero
QAT_MAX = 64  # the largest whole number of the grids that training in eight bits rounds to
# Significant bits of those grids' steps. With the six of a number below 64 they make the eleven of a float16, so that
# weights on a grid are exact in half precision too.
SCALE_BITS = 5
_OFF_GRID = 1e-3  # of a step


def symmetric_scales(
    weight: Array, levels: int = INT8_MAX, *, avoid_saturation: bool = False
) -> npt.NDArray[np.float64]:
    """The step of each channel's grid.

    Args:
        weight: (channels, ...), each channel's numbers in the order in which they are summed up.
        levels: whole numbers to either side of zero.
        avoid_saturation: whether products of neighbouring weights are added in 16 bits and must not overflow.

    Returns:
        (channels,); 1 for a channel without weights.
    """
    rows = _rows(weight)
    steps = np.abs(rows).max(axis=1) / levels
    if avoid_saturation:
        even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        pairs = even.reshape(len(even), -1, 2)
        # Only weights of one sign add up. Two units of the 128 are for rounding.
        together = np.maximum(pairs.clip(min=0).sum(axis=2), -pairs.clip(max=0).sum(axis=2)).max(axis=1)
        steps = np.maximum(steps, together / (INT8_MAX - 1))
    if levels >= QAT_MAX:  # two of these add up to 128, and none is to be rounded
        own = qat_scales(weight)
        steps = np.where(own > 0, own, steps)
    return np.where(steps > 0, steps, 1.0)


def preserved_scales(weight: Array, *, avoid_saturation: bool = False) -> npt.NDArray[np.float64]:
    """As `symmetric_scales`, but a channel that lies on a grid already keeps it, whoever put it there.

    Unless neighbours would add up to too much by it, where they are `avoid_saturation`.
    """
    own, steps = exact_scales(weight), symmetric_scales(weight, avoid_saturation=avoid_saturation)
    return np.where(own >= steps * (1 - 1e-6), own, steps)


def qat_scales(weight: Array) -> npt.NDArray[np.float64]:
    """The step of the grid that training in eight bits put each channel of a weight (channels, ...) on.

    Returns:
        (channels,); 0 for a channel that lies on none. That of a few weights may by chance; then it loses little.
    """
    rows = _rows(weight)
    found = np.zeros(len(rows))
    first = qat_scales_for(np.abs(rows).max(axis=1))
    # The largest number was itself rounded, perhaps below where the next lower step begins.
    for steps in (qat_scales_for(first * (QAT_MAX + 1)), first):
        divisors = np.where(steps > 0, steps, 1.0)
        fits = _are_whole(rows, divisors) & (np.abs(rows).max(axis=1) > QAT_MAX / 2 * divisors)
        found = np.where(fits, steps, found)
    return found


def exact_scales(weight: Array) -> npt.NDArray[np.float64]:
    """The widest step of which all of a channel's numbers are multiples, whoever rounded them.

    Unlike `symmetric_scales`, this also finds the scale of a part of a channel that has none of its largest numbers.

    Args:
        weight: (channels, ...).

    Returns:
        (channels,); 0 for a channel without such a step. That of a few weights may have one by chance.
    """
    rows = _rows(weight)
    few, largest = rows[:, :16], np.abs(rows).max(axis=1)  # a few rule out most
    found = np.zeros(len(rows))
    for count in range(INT8_MAX, 0, -1):  # of steps in the largest; the widest step comes last and stays
        steps = largest / count
        left = np.flatnonzero((steps > 0) & _are_whole(few, np.where(steps > 0, steps, 1.0)))
        left = left[_are_whole(rows[left], steps[left])]
        found[left] = steps[left]
    return found


def _are_whole(rows: npt.NDArray[np.float64], steps: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows hold nothing but multiples of their step."""
    numbers = rows / steps[:, None]
    return np.asarray(np.abs(numbers - np.rint(numbers)).max(axis=1) < _OFF_GRID)


def qat_scales_for(largest: Array) -> npt.NDArray[np.float64]:
    """Steps of grids for channels with these largest numbers: 1/64 of them, rounded up to `SCALE_BITS` bits."""
    mantissa, exponent = np.frexp(np.asarray(largest, np.float64) / QAT_MAX)
    return np.asarray(np.ldexp(np.ceil(mantissa * 2**SCALE_BITS) / 2**SCALE_BITS, exponent))


def has_qat_scales(weight: Array) -> npt.NDArray[np.bool_]:
    """Which channels of a weight (channels, ...) training in eight bits put on a grid; those of zeros count."""
    return np.asarray((qat_scales(weight) > 0) | ~_rows(weight).any(axis=1))


def _rows(weight: Array) -> npt.NDArray[np.float64]:
    """A weight `(channels, ...)` as (channels, weights)."""
    return np.asarray(weight, np.float64).reshape(len(weight), -1)
