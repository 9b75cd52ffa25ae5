"""Summary statistics of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, standard deviation, minimum, quartiles, and the percentiles 50, 90 and 99, in the values' unit.

    Percentiles interpolate between the two nearest values: of few values, the 99th is close to the maximum.
    """
    q25, p50, q75, p90, p99 = (float(value) for value in np.percentile(values, [25, 50, 75, 90, 99]))
    return {
        "count": len(values),
        "mean": float(np.mean(values)),
        "std": float(np.std(values)),
        "min": float(np.min(values)),
        "q25": q25,
        "p50": p50,
        "q75": q75,
        "p90": p90,
        "p99": p99,
    }


def ratios(values: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """The spread of each value divided by the reference of the same round."""
    return spread([value / reference for value, reference in zip(values, references, strict=True)])
