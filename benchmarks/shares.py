"""A graph's time as a share of another's, as the INT8 tables show it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from sam_edge_runtime.benchmark.spread import ratios


def share_of_fp32(seconds: Sequence[float], fp32: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of each round's time over fp32's of that round, and fp32's median in seconds."""
    found = ratios(seconds, fp32)
    return {"median": found["p50"], "low": found["q25"], "high": found["q75"], "fp32_seconds": median(fp32)}
