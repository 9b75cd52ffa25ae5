"""Records that cannot be used.

Some of eleven million records are broken: a truncated JPEG, a damaged mask, a photo without its JSON. One of them must
not end a training run, so it is skipped. But a run must not silently lose much of its data either, so skipped records
are counted and named, and too large a share of them is an error.

The share is that of distinct records: one that comes again in each epoch is broken once. In a small set or a short run
one broken record is a large share by chance. So the share is too large only when even its lower bound is: Wilson's
score interval, one-sided at 99 % (E. B. Wilson, Probable inference, 1927). Of 12 records 2 may be broken, of 100 ten,
of 10,000 550, where 5 % are allowed.

Worker processes read the records, and one log in the main process counts. So each example carries the `Skip`s that were
met while it was read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from sam_edge_runtime.errors import DataError, UsageError, short_name

ALLOWED_BROKEN = 0.05  # share of broken records, where the user allows no other
CHECKED_FROM = 100  # records before the share is checked in the middle of a run
_Z = 2.326  # of the normal distribution, one-sided 99 %
KEPT_NAMES = 10_000  # records that are named; more are only counted
SHOWN_NAMES = 3  # in the one line of an error


class BrokenRecordError(DataError):
    """One record that cannot be used. This package catches it and makes a `Skip` of it."""


@dataclass(frozen=True)
class Skip:
    """A record that was skipped: `source` and `key` as in `Sample`, and the reason in one line."""

    source: str
    key: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("source", "key", "reason"):  # they come from untrusted files
            object.__setattr__(self, name, short_name(getattr(self, name)))

    def __str__(self) -> str:
        return f"{self.key} in {self.source} ({self.reason})"


@dataclass
class SkipLog:
    """Counts the records of a run.

    Attributes:
        most_share: largest accepted share of broken records, 0..1.
        seen: records so far, skipped ones and repetitions included.
        skipped: skipped records so far, repetitions included.
        draws: for each source its share of the draws and its number of records, where records are drawn repeatedly;
            empty where each comes once.
        at_end: never raise, because finished work must not be lost; whoever reads `complaint` at the end reports it.

    Raises:
        UsageError: a share outside 0..1.
    """

    most_share: float = ALLOWED_BROKEN
    seen: int = 0
    skipped: int = 0
    draws: tuple[tuple[float, int], ...] = ()
    at_end: bool = False
    _named: dict[tuple[str, str], Skip] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.most_share <= 1:
            raise UsageError(f"the accepted share of broken records (--allow-broken) is {self.most_share}: use 0 to 1")

    def add(self, seen: int, skips: Iterable[Skip] = ()) -> None:
        """Count `seen` records, of which `skips` were skipped.

        Raises:
            DataError: the share of broken records is too large, and at least `CHECKED_FROM` records were seen.
        """
        self.seen += seen
        for skip in skips:
            self.skipped += 1
            if len(self._named) < KEPT_NAMES:
                self._named.setdefault((skip.source, skip.key), skip)
        if self.distinct >= CHECKED_FROM:
            self.check()

    @property
    def distinct(self) -> int:
        """The number of different records among those seen, as the order of draws implies."""
        if not self.draws:
            return max(self.broken, self.seen)
        return max(self.broken, round(sum(min(self.seen * share, size) for share, size in self.draws)))

    @property
    def broken(self) -> int:
        """The number of different records that were skipped; beyond `KEPT_NAMES` repetitions count too."""
        return len(self._named) if len(self._named) < KEPT_NAMES else self.skipped

    def complaint(self) -> str | None:
        """What is wrong if the share of broken records is too large, in one line; None otherwise."""
        if _lower_bound(self.broken, self.distinct) <= self.most_share:
            return None
        names = list(self._named.values())
        shown = "; ".join(map(str, names[:SHOWN_NAMES])) + ("; ..." if len(names) > SHOWN_NAMES else "")
        return (
            f"{self.broken} of {self.distinct} records could not be used, more than {self.most_share:.1%}: repair or "
            f"remove them, or allow a larger share with --allow-broken: {shown}"
        )

    def check(self) -> None:
        """Check the share of broken records at the end of a run, even if it saw few.

        Raises:
            DataError: the share is too large, and `at_end` is false.
        """
        complaint = None if self.at_end else self.complaint()
        if complaint is not None:
            raise DataError(complaint)

    @property
    def names(self) -> tuple[Skip, ...]:
        """The skipped records, each once, at most `KEPT_NAMES` of them."""
        return tuple(self._named.values())

    def lines(self) -> list[str]:
        """Lines to print at the end: a count, then a line for each skipped record; empty if there are none."""
        if not self.skipped:
            return []
        named = [f"  {skip}" for skip in self.names]
        more = ["  and more, which were only counted"] if len(named) == KEPT_NAMES else []
        return [f"skipped {self.skipped} of {self.seen} records ({self.skipped / self.seen:.2%})", *named, *more]


def _lower_bound(broken: int, records: int) -> float:
    """Wilson's lower bound of the share of broken records."""
    if not broken:
        return 0.0
    share, spread = broken / records, _Z**2 / records
    half = _Z * math.sqrt(share * (1 - share) / records + spread / (4 * records))
    return (share + spread / 2 - half) / (1 + spread)
