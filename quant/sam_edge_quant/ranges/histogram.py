"""How often an activation had which value, in memory that does not grow with what is observed.

Bin k counts the values from k * w up to (k + 1) * w, where the width w is a power of two. Where a value lies beyond the
bins that there are, neighbours become one until it does not. Bins so aligned never have to be divided, so the counts
are those of all values at once, in whatever order and pieces they came. Exact zeros, half of what a ReLU gives, cost
quantization nothing; they are counted apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64

BINS = 1 << 13  # more than half of them are in use: 16 or more for each of 256 levels
LARGEST_COUNT = 1 << 20  # values of one array that are counted; of a larger one every so-manieth

Counts = npt.NDArray[np.int64]


class Histogram:
    """Counts of values.

    Attributes:
        low, high: least and largest value observed, or zero where that is beyond.
        zeros: how many values were exactly zero; the bins do not hold them.
        counts: `(BINS)` values in each bin.
        first: number k of the first bin.
        width: w.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.zeros = 0
        self.counts: Counts = np.zeros(BINS, np.int64)
        self.first = 0
        self.width = 0.0

    @property
    def edges(self) -> Float64:
        """Lower edges of the bins, and the last one's upper edge: `(BINS + 1)`."""
        return np.arange(self.first, self.first + BINS + 1, dtype=np.float64) * self.width

    @property
    def total(self) -> int:
        """Values counted, zeros included."""
        return self.zeros + int(self.counts.sum())

    def add(self, array: npt.NDArray[Any], low: float, high: float) -> None:
        """Count an array of finite numbers whose least and largest are `low` and `high`.

        Of a large array an even choice is counted, each value for those beside it: every k-th, where k and the array's
        size have no common divisor, so that each channel gets its share.
        """
        step = _step(array.size)
        values = array.reshape(-1)[::step].astype(np.float64)
        self._widen(min(low, self.low), max(high, self.high))
        if self.width == 0.0:  # nothing but zeros so far
            self.zeros += step * values.size
            return
        bins = np.floor(values * (1.0 / self.width)).astype(np.int64) - self.first  # exact: a power of two
        counted = np.bincount(bins, minlength=BINS) * step
        zeros = step * (values.size - int(np.count_nonzero(values)))
        counted[-self.first] -= zeros
        self.counts += counted
        self.zeros += zeros

    def _widen(self, low: float, high: float) -> None:
        """Have the bins reach from `low` to `high`, which lie at zero or on either side of it."""
        if (low, high) == (self.low, self.high):
            return
        self.low, self.high = low, high
        width = _width(low, high)
        first = math.floor(low / width)
        if self.counts.any():
            halvings = min(round(math.log2(width / self.width)), 62)  # what int64 shifts by
            numbers = (self.first + np.arange(BINS)) >> halvings  # rounds down, also below zero
            filled = np.flatnonzero(self.counts)
            moved = np.zeros_like(self.counts)
            np.add.at(moved, numbers[filled] - first, self.counts[filled])
            self.counts = moved
        self.first, self.width = first, width


def _width(low: float, high: float) -> float:
    """The smallest power of two with which `BINS` bins reach from `low` to `high`."""
    width = math.ldexp(1.0, math.frexp(high - low)[1]) / BINS
    while math.floor(high / width) - math.floor(low / width) >= BINS:
        width *= 2
    return width


def _step(size: int) -> int:
    step = -(-size // LARGEST_COUNT)
    while math.gcd(step, size) > 1:
        step += 1
    return max(step, 1)
