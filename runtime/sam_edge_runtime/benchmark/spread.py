"""Many measurements of one thing as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, standard deviation, least, quartiles, and the percentiles 50, 90 and 99, in the values' unit.

    Percentiles lie between the two nearest values, so of few values the 99th is hardly less than the largest.
    """
    low, half, high, p90, p99 = (float(value) for value in np.percentile(values, [25, 50, 75, 90, 99]))
    return {
        "count": len(values),
        "mean": float(np.mean(values)),
        "std": float(np.std(values)),
        "min": float(np.min(values)),
        "q25": low,
        "p50": half,
        "q75": high,
        "p90": p90,
        "p99": p99,
    }


def ratios(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """The spread of `values` against `others` of the same rounds, round by round."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
