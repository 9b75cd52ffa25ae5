"""Estimators: from a histogram of an activation to its quantization range.

| estimator | range | source |
|---|---|---|
| `minmax` | all values | |
| `percentile` | all but a share of `CUT_OFF` of the values at either end | Wu et al., arXiv 2004.09602, section 3.3 |
| `entropy` | the least divergence of the quantized distribution | TensorRT: Migacz, GTC 2017, S7310 |
| `mse` | the least squared error of rounding and clipping | Nagel et al., arXiv 2106.08295, section 3.1 |

A wide range has a large scale and rounds coarsely, a narrow one clips more values. Zero is always inside, because
padding and ReLU need it exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64

from .histogram import BINS, Histogram

LEVELS = 256  # of INT8
CUT_OFF = 1e-6  # docs/int8.md has the comparison
_ENTROPY_CUTS = 128  # thresholds tried
_COARSE = 2.0 ** (-np.arange(33) / 4)  # factors of the extremes that `mse` tries first, down to 1/256
_FINE = 2.0 ** (np.arange(-8, 9) / 32)  # and factors of the best of these that it tries next

Cut = tuple[float, float]


def minmax(histogram: Histogram) -> Cut:
    """The least and the largest value."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Cut:
    """All but a share of `CUT_OFF` of the values at either end; values are taken to be uniform within a bin."""
    edges, counts = histogram.edges, histogram.counts.astype(np.float64)
    counts[-histogram.first] += histogram.zeros
    share = np.concatenate([[0.0], np.cumsum(counts)]) / histogram.total
    low, high = np.interp([CUT_OFF, 1.0 - CUT_OFF], share, edges).tolist()
    return min(low, 0.0), max(high, 0.0)


def entropy(histogram: Histogram) -> Cut:
    """The threshold on magnitudes with the least Kullback-Leibler divergence.

    The fine distribution is the histogram up to the threshold, its outermost bins holding the clipped values. The
    coarse one has 256 levels, each level's count spread evenly over its bins that are not empty. TensorRT has 2,048
    bins and 128 levels of magnitudes; here a level has at least as many bins.
    """
    counts, edges = histogram.counts, histogram.edges
    peak = max(-histogram.low, histogram.high)
    best, least = peak, np.inf
    for threshold in peak * np.arange(1, _ENTROPY_CUTS + 1) / _ENTROPY_CUTS:
        start, end = np.searchsorted(edges, (-threshold, threshold), side="right") - 1
        divergence = _divergence(counts, max(int(start), 0), min(int(end) + 1, counts.size))
        if divergence < least:
            best, least = float(threshold), divergence
    return max(histogram.low, -best), min(histogram.high, best)


def _divergence(counts: npt.NDArray[np.int64], start: int, end: int) -> float:
    """Divergence for the bins from `start` to `end`; infinite if a clipped value falls into an empty bin."""
    inside = counts[start:end].astype(np.float64)
    if inside.size < LEVELS:
        return np.inf
    fine = inside.copy()
    fine[0] += counts[:start].sum()
    fine[-1] += counts[end:].sum()
    starts = np.unique(np.arange(LEVELS) * inside.size // LEVELS)
    filled = np.maximum(np.add.reduceat(inside > 0, starts, dtype=np.int64), 1)
    means = np.add.reduceat(inside, starts) / filled
    coarse = np.repeat(means, np.diff(np.append(starts, inside.size))) * (inside > 0)
    some = fine > 0
    if (coarse[some] == 0).any():
        return np.inf
    fine, coarse = fine[some] / fine.sum(), coarse[some] / coarse.sum()
    return float(np.sum(fine * np.log(fine / coarse)))


def mse(histogram: Histogram) -> Cut:
    """The two ends with the least squared error in INT8, for values that are uniform within each bin."""
    error = _SquaredError(histogram)
    low, high = error.least(histogram.low * _COARSE, histogram.high * _COARSE)
    lows, highs = (np.clip(end * _FINE, histogram.low, histogram.high) for end in (low, high))
    return error.least(lows, highs)


class _SquaredError:
    """The sum of squared errors of quantized values, from integrals of the histogram's density."""

    def __init__(self, histogram: Histogram) -> None:
        self._edges, self._first, self._width = histogram.edges, histogram.first, histogram.width
        self._density = histogram.counts / histogram.width
        # Integrals of density, density * x and density * x^2 up to each edge.
        self._integrals = [
            np.concatenate([[0.0], np.cumsum(self._density * np.diff(self._edges**power) / power)])
            for power in (1, 2, 3)
        ]

    def least(self, lows: Float64, highs: Float64) -> Cut:
        """The pair of ends with the least error, of all pairs."""
        low, high = (ends.ravel() for ends in np.meshgrid(np.unique(lows), np.unique(highs)))
        wide = high > low
        low, high = low[wide], high[wide]
        best = int(np.argmin(self._errors(low, high)))
        return float(low[best]), float(high[best])

    def _errors(self, low: Float64, high: Float64) -> Float64:
        """The errors `(R)` of the ranges from `low (R)` to `high (R)`."""
        scale = (high - low) / (LEVELS - 1)
        zero_point = np.rint(-low / scale)
        levels = (np.arange(LEVELS) - zero_point[:, None]) * scale[:, None]  # (R, LEVELS)
        between = (levels[:, 1:] + levels[:, :-1]) / 2
        ends = np.broadcast_to(self._edges[[0, -1]], (len(low), 2))
        counts, sums, squares = self._within(np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1))
        errors: Float64 = (squares - 2 * levels * sums + levels**2 * counts).sum(axis=1)
        return errors

    def _within(self, borders: Float64) -> tuple[Float64, ...]:
        """Count, sum and sum of squares of the values between neighbouring borders `(R, LEVELS + 1)`."""
        places = np.clip(borders, self._edges[0], self._edges[-1])
        bins = np.clip(np.floor(places / self._width).astype(np.int64) - self._first, 0, BINS - 1)
        edges, density = self._edges[bins], self._density[bins]
        return tuple(
            np.diff(integral[bins] + density * (places**power - edges**power) / power, axis=1)
            for power, integral in enumerate(self._integrals, start=1)
        )


ESTIMATORS: dict[str, Callable[[Histogram], Cut]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
