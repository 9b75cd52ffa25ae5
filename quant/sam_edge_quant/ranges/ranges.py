"""Ranges of activations: what calibration samples are asked for.

Each activation is told value by value as the artifact makes it, counted in a histogram, and let go. How much memory it
takes therefore depends on the number of activations and not on that of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import ExportError, UsageError

from .estimators import ESTIMATORS, Cut
from .histogram import Histogram

# Inputs of one call of an artifact, by name, in the artifact's own layout.
Sample = dict[str, npt.NDArray[np.float32]]
# Told a tensor's name and its value in one call.
Tell = Callable[[str, Array], None]
# Runs an artifact on a sample and tells the values of some of its activations.
Observer = Callable[[Sample, Tell], None]
# Told how many samples are done.
Progress = Callable[[int], None]

NARROWEST = 1e-30  # a width whose 65,536th part float32 still holds


@dataclass(frozen=True)
class Range:
    """What an activation is taken to lie in; what lies outside is cut off."""

    low: float
    high: float


# By the tensor's name in the artifact.
Ranges = Mapping[str, Range]


class RangeObserver:
    """What there is to know of one activation.

    Attributes:
        name: of the tensor.
        histogram: how often it had which value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.histogram = Histogram()

    def observe(self, array: Array) -> None:
        """Count the values of one call.

        Raises:
            ExportError: some are not finite.
        """
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())  # either is NaN where any value is
        if not (math.isfinite(low) and math.isfinite(high)):
            kind = "NaN" if math.isnan(low) else "infinite numbers"
            raise ExportError(
                f"activation {self.name} has {kind} on a calibration sample: look where they come from with "
                "`sam-edge verify --trace`, and leave out the photo if it is broken"
            )
        self.histogram.add(array, low, high)

    def range(self, estimator: str) -> Range:
        """The range by one of `ESTIMATORS`; zero is inside, and it has a width.

        Raises:
            UsageError: no such estimator.
        """
        cut = _estimator(estimator)
        seen = self.histogram
        if seen.high - seen.low < NARROWEST:
            return Range(0.0, 1.0)  # nothing but zeros: any range holds them
        low, high = cut(seen)
        return Range(max(low, seen.low), min(high, seen.high))


def observe(
    observer: Observer,
    names: Sequence[str],
    samples: Iterable[Sample],
    progress: Progress = lambda done: None,
) -> dict[str, RangeObserver]:
    """Run an artifact on samples and look at its activations.

    Args:
        observer: runs the artifact and tells its activations.
        names: the activations that are wanted; others are passed over.
        samples: one after another; none is kept.
        progress: told how many are done.

    Raises:
        ExportError: an activation has values that are not finite, or was never told.
    """
    found = {name: RangeObserver(name) for name in names}

    def tell(name: str, value: Array) -> None:
        if name in found:
            found[name].observe(value)

    for done, sample in enumerate(samples, start=1):
        observer(sample, tell)
        progress(done)
    for name, each in found.items():
        if not each.histogram.total:
            raise ExportError(f"no calibration sample gave activation {name} a value: calibrate with more photos")
    return found


def calibrate(
    observer: Observer,
    names: Sequence[str],
    samples: Iterable[Sample],
    estimator: str,
    progress: Progress = lambda done: None,
) -> dict[str, Range]:
    """The ranges of an artifact's activations on samples; see `observe`.

    Raises:
        UsageError: no such estimator.
        ExportError: as `observe`.
    """
    _estimator(estimator)  # before samples are run
    return {name: each.range(estimator) for name, each in observe(observer, names, samples, progress).items()}


def _estimator(name: str) -> Callable[[Histogram], Cut]:
    if name not in ESTIMATORS:
        raise UsageError(f"no estimator called {name!r}: choose one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]
