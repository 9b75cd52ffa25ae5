"""Records that cannot be used.

Some of eleven million records are broken: a truncated JPEG, a damaged mask, a photo without its JSON. One of them must
not end a training run, so it is skipped. But a run must not silently lose much of its data either, so skipped records
are counted and named, and too large a share of them is an error.

Worker processes read the records, and one log in the main process counts. So each example carries the `Skip`s that were
met while it was read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sam_edge_runtime.errors import DataError, UsageError, short_name

CHECKED_FROM = 100  # records before the share is checked: one of ten would already be 10 %
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

    A record that comes again in the next epoch is counted again, and named once.

    Attributes:
        most_share: largest accepted share of skipped records, 0..1.
        seen: records so far, skipped ones included.
        skipped: skipped records so far.

    Raises:
        UsageError: a share outside 0..1.
    """

    most_share: float = 0.05
    seen: int = 0
    skipped: int = 0
    _named: dict[tuple[str, str], Skip] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.most_share <= 1:
            raise UsageError(f"the accepted share of skipped records is {self.most_share}: use 0 to 1")

    def add(self, seen: int, skips: Iterable[Skip] = ()) -> None:
        """Count `seen` records, of which `skips` were skipped.

        Raises:
            DataError: the share of skipped records is too large, and at least `CHECKED_FROM` records were seen.
        """
        self.seen += seen
        for skip in skips:
            self.skipped += 1
            if len(self._named) < KEPT_NAMES:
                self._named.setdefault((skip.source, skip.key), skip)
        if self.seen >= CHECKED_FROM:
            self.check()

    def check(self) -> None:
        """Check the share of skipped records at the end of a run, even if it saw few.

        Raises:
            DataError: the share of skipped records is too large.
        """
        if self.skipped <= self.most_share * self.seen:
            return
        names = list(self._named.values())
        shown = "; ".join(map(str, names[:SHOWN_NAMES])) + ("; ..." if len(names) > SHOWN_NAMES else "")
        raise DataError(
            f"{self.skipped} of {self.seen} records could not be used, more than {self.most_share:.1%}: {shown}; "
            "mend or remove them, or allow a larger share"
        )

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
