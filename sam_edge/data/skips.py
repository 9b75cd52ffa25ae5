"""Records that cannot be used.

Among eleven million records some are broken: a truncated JPEG, a damaged mask, half a pair. One of them must not end
a training run, so it is skipped; but a run that skips much of its data trains on something else than it was given, so
it is counted and named, and above a bounded share it is an error.

Records are read in worker processes while one log in the main process judges. What was met therefore travels with
each example as `Skip`s, and the log only adds up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sam_edge.reporting.wording import in_one_line
from sam_edge_runtime.errors import DataError, UsageError

JUDGED_FROM = 100  # records seen before their share is judged: of ten, one is already a tenth
KEPT_NAMES = 10_000
SHOWN_NAMES = 3  # in an error's one line


class BrokenRecordError(DataError):
    """One record that cannot be used. It is caught inside this package and becomes a `Skip`."""


@dataclass(frozen=True)
class Skip:
    """One record that was left out, and why: `source` and `key` as in `Sample`, and a reason of one line."""

    source: str
    key: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("source", "key", "reason"):  # they come out of files that nobody vouches for
            object.__setattr__(self, name, in_one_line(getattr(self, name)))

    def __str__(self) -> str:
        return f"{self.key} in {self.source} ({self.reason})"


@dataclass
class SkipLog:
    """The count of a run.

    A record that is met again in the next epoch counts again among those seen and those skipped, and is named once.

    Attributes:
        most_share: the share of skipped records that is still accepted, from 0 to 1.
        seen: records met so far, skipped ones included.
        skipped: how many of them were skipped.

    Raises:
        UsageError: a share outside 0..1.
    """

    most_share: float = 0.05
    seen: int = 0
    skipped: int = 0
    _named: dict[tuple[str, str], Skip] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.most_share <= 1:
            raise UsageError(f"{self.most_share} is no share of records that may be skipped: use 0 to 1")

    def add(self, seen: int, skips: Iterable[Skip] = ()) -> None:
        """Count `seen` records, among them the skipped ones.

        Raises:
            DataError: the skipped share is above the bound, and at least `JUDGED_FROM` records were seen.
        """
        self.seen += seen
        for skip in skips:
            self.skipped += 1
            if len(self._named) < KEPT_NAMES:
                self._named.setdefault((skip.source, skip.key), skip)
        if self.seen >= JUDGED_FROM:
            self.judge()

    def judge(self) -> None:
        """The last word on a run, however few records it saw.

        Raises:
            DataError: the skipped share is above the bound.
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
        """What was skipped, each record once, at most `KEPT_NAMES` of them."""
        return tuple(self._named.values())

    def lines(self) -> list[str]:
        """What to print at the end: nothing if nothing was skipped, else a count and then one line a record."""
        if not self.skipped:
            return []
        named = [f"  {skip}" for skip in self.names]
        more = ["  and more, which were only counted"] if len(named) == KEPT_NAMES else []
        return [f"skipped {self.skipped} of {self.seen} records ({self.skipped / self.seen:.2%})", *named, *more]
