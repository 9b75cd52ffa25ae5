"""Calibration: ranges of an artifact's activations on samples.

Each activation is counted in a histogram as the artifact computes it, and then dropped. So memory depends on the number
of activations and not on the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sam_edge_runtime.arrays import Array, Call
from sam_edge_runtime.errors import ExportError, UsageError

from .estimators import ESTIMATORS, Cut
from .histogram import Histogram

# Takes a tensor's name and its value in one call.
Receive = Callable[[str, Array], None]
# Runs an artifact on a sample and passes the values of some of its activations on.
Observer = Callable[[Call, Receive], None]
# Takes the number of samples done.
Progress = Callable[[int], None]

NARROWEST = 1e-30  # a width whose 65,536th part is a number in float32


@dataclass(frozen=True)
class Range:
    """The range of an activation; values outside are clipped."""

    low: float
    high: float


# By the tensor's name in the artifact.
Ranges = Mapping[str, Range]


class RangeObserver:
    """Statistics of one activation.

    Attributes:
        name: of the tensor.
        histogram: of its values.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.histogram = Histogram()

    def observe(self, array: Array) -> None:
        """Count the values of one call.

        Raises:
            ExportError: some are NaN or infinite.
        """
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())  # either is NaN where any value is
        if not (math.isfinite(low) and math.isfinite(high)):
            kind = "NaN" if math.isnan(low) else "infinite numbers"
            raise ExportError(
                f"activation {self.name} has {kind} on a calibration sample: find where they arise with "
                "`sam-edge verify --trace`, and leave out the photo if it is broken"
            )
        self.histogram.add(array, low, high)

    def range(self, estimator: str) -> Range:
        """The range by one of `ESTIMATORS`; it holds zero and is wider than zero.

        Raises:
            UsageError: no such estimator.
        """
        cut = _estimator(estimator)
        seen = self.histogram
        if seen.high - seen.low < NARROWEST:
            return Range(0.0, 1.0)  # all values are zero: any range holds them
        low, high = cut(seen)
        return Range(max(low, seen.low), min(high, seen.high))


def calibrate(
    observer: Observer,
    names: Sequence[str],
    samples: Iterable[Call],
    estimator: str,
    progress: Progress = lambda done: None,
) -> dict[str, Range]:
    """Run an artifact on samples, and estimate the ranges of its activations.

    Args:
        observer: runs the artifact and passes its activations on.
        names: the activations to observe; others are ignored.
        samples: inputs of calls, read one at a time.
        estimator: one of `ESTIMATORS`.
        progress: called with the number of samples done.

    Raises:
        UsageError: no such estimator.
        ExportError: an activation has values that are NaN or infinite, or no values at all.
    """
    _estimator(estimator)  # before samples are run
    observers = {name: RangeObserver(name) for name in names}

    def receive(name: str, value: Array) -> None:
        if name in observers:
            observers[name].observe(value)

    for done, sample in enumerate(samples, start=1):
        observer(sample, receive)
        progress(done)
    for name, each in observers.items():
        if not each.histogram.total:
            raise ExportError(f"no calibration sample gave activation {name} a value: calibrate with more photos")
    return {name: each.range(estimator) for name, each in observers.items()}


def _estimator(name: str) -> Callable[[Histogram], Cut]:
    if name not in ESTIMATORS:
        raise UsageError(f"no estimator called {name!r}: choose one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]
