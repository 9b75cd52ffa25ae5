"""Several sources, drawn by weight.

The size of a data set says little about its value for training: the largest may show one kind of thing. A weight sets
the share of draws that a source gets, so records of a small source may be drawn more often than those of a large one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sam_edge_runtime.errors import DataError, UsageError

from .sources import Source, open_source


@dataclass(frozen=True, eq=False)
class Mixture:
    """Sources and their shares of the draws.

    Attributes:
        sources: at least one.
        weights: one for each source, above 0; only their proportions count.

    Raises:
        DataError: no source, a source without records, or a weight that is not a positive number.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sources or len(self.sources) != len(self.weights):
            raise DataError(
                f"{len(self.sources)} sources have {len(self.weights)} weights: give one weight for each source"
            )
        for source, weight in zip(self.sources, self.weights, strict=True):
            if not len(source):
                raise DataError(f"{source.name} holds no records: leave it out")
            if not math.isfinite(weight) or weight <= 0:
                raise DataError(f"{source.name} has the weight {weight}: use a number above 0, or leave it out")

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights divided by their sum."""
        total = math.fsum(self.weights)
        return tuple(weight / total for weight in self.weights)

    @property
    def annotated(self) -> bool:
        """Whether every source has masks."""
        return all(source.annotated for source in self.sources)

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)


def of_sources(*sources: Source) -> Mixture:
    """Sources weighted by their sizes, so that each record is drawn equally often."""
    return Mixture(sources, tuple(float(len(source)) for source in sources))


def open_mixture(what: Sequence[str]) -> Mixture:
    """Open sources as the command line names them: all as `PATH`, or all as `PATH=WEIGHT`.

    Raises:
        UsageError: no source, or only some have weights.
        DataError: see `open_source` and `Mixture`.
    """
    if not what:
        raise UsageError("no data are given: name at least one shard, folder or pattern")
    named = [_weighted(text) for text in what]
    weighted = [weight is not None for _, weight in named]
    if any(weighted) and not all(weighted):
        bare = named[weighted.index(False)][0]
        raise UsageError(f"{bare} has no weight but others have one: write {bare}=WEIGHT, or give no weights")
    sources = [open_source(path) for path, _ in named]
    if not any(weighted):
        return of_sources(*sources)
    return Mixture(tuple(sources), tuple(weight for _, weight in named if weight is not None))


def _weighted(text: str) -> tuple[str, float | None]:
    """A path and its weight: the text after the last `=`, if that is a number."""
    path, sign, weight = text.rpartition("=")
    try:
        return (path, float(weight)) if sign and path else (text, None)
    except ValueError:
        return text, None
