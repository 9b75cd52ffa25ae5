"""Data as the protocols read them, and the names that reports give them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sam_edge.data.mixture import of_sources
from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.errors import DataError


def open_annotated(what: str) -> Source:
    """Open a source whose records hold masks.

    Raises:
        DataError: it is missing, has no records, or none with masks.
    """
    source = open_source(what)
    if not source.annotated:
        raise DataError(f"{what} has photos without masks, which accuracy is measured against: name other data")
    of_sources(source)  # raises if it has no records
    return source


def with_masks(source: Source, log: SkipLog, limit: int | None) -> Iterator[Sample]:
    """The source's photos that have masks, at most `limit`.

    Raises:
        DataError: there are none.
    """
    given = 0
    for sample in walk(source, log):
        if sample.rles:
            yield sample
            given += 1
            if given == limit:
                return
    if not given:
        raise DataError(f"{source.name} has no photo with a mask: name other data")


def skipped_names(log: SkipLog) -> list[str]:
    """The skipped records, without full paths: a report may be published."""
    return [f"{skip.key} in {short_name(skip.source)} ({skip.reason})" for skip in log.names]


def short_name(name: str) -> str:
    """The last two parts of a source's path, which reveal nothing of the machine."""
    path = Path(name)
    return "/".join([part for part in path.parts if part != path.anchor][-2:]) or path.resolve().name
