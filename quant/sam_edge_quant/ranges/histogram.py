"""A histogram of an activation's values, in memory that does not grow with the number of values.

Bin k counts the values from k * w up to (k + 1) * w, where the width w is a power of two. When a value lies beyond the
bins, w doubles and neighbouring bins are merged until it fits. Bins aligned in this manner never have to be divided, so
the counts do not depend on the order of the values. Exact zeros, half of a ReLU's output, have no quantization error;
they are counted apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64

BINS = 1 << 13  # more than half of them are in use: at least 16 for each of 256 levels
LARGEST_COUNT = 1 << 20  # values counted of one array; a larger one is subsampled

Counts = npt.NDArray[np.int64]


class Histogram:
    """Counts of an activation's values.

    Attributes:
        low, high: the range of the observed values and zero.
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

        Of a large array every k-th value is counted, with weight k; k and the array's size have no common divisor, so
        that every channel is represented.
        """
        stride = _stride(array.size)
        values = array.reshape(-1)[::stride].astype(np.float64)
        self._widen(min(low, self.low), max(high, self.high))
        if self.width == 0.0:  # nothing but zeros so far
            self.zeros += stride * values.size
            return
        bins = np.floor(values * (1.0 / self.width)).astype(np.int64) - self.first  # exact: a power of two
        counted = np.bincount(bins, minlength=BINS) * stride
        zeros = stride * (values.size - int(np.count_nonzero(values)))
        counted[-self.first] -= zeros
        self.counts += counted
        self.zeros += zeros

    def _widen(self, low: float, high: float) -> None:
        """Merge bins until they cover `low` to `high`; zero lies between or at either."""
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
    """The smallest power of two with which `BINS` bins cover `low` to `high`."""
    width = math.ldexp(1.0, math.frexp(high - low)[1]) / BINS
    while math.floor(high / width) - math.floor(low / width) >= BINS:
        width *= 2
    return width


def _stride(size: int) -> int:
    stride = -(-size // LARGEST_COUNT)
    while math.gcd(stride, size) > 1:
        stride += 1
    return max(stride, 1)
