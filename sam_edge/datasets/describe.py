"""`sam-edge data describe`: statistics of data sets, in several processes.

A source is divided into parts of some thousand records of one shard. With an output folder, the statistics of each part
are kept there as soon as it is read. So a killed run goes on where it was, and loses the parts in hand.

    OUT/.parts/settings.json        what is described; parts of other data are refused
    OUT/.parts/00000000.json        the statistics of a part
    OUT/report.json, report.html    the description; `.parts` is removed
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam_edge.annotation.processes import Send, events_of
from sam_edge.data.shards import FileShard, TarShard
from sam_edge.data.sources import Source, open_source
from sam_edge.reporting.folders import DESCRIPTION_PARTS, foreign_in_description
from sam_edge.reporting.names import short_names
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import is_staging, write_file, write_files
from sam_edge_runtime.system.folders import check_destination

from .description import Description, report_files
from .statistics import Statistics
from .survey import Part, survey

SETTINGS = "settings.json"
RECORDS = 2000  # of a part
_READ, _PART = "read", "part"  # events of a process
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DescribeJob:
    """The data and the output.

    Attributes:
        sources: paths or patterns, as `open_source` takes them.
        out: folder for the page and what is kept of a run; None: nothing is written.
        jobs: number of processes.
        decode_photos: also decode each photo, which finds damaged ones.
        records: of a part.
        overwrite: replace an earlier description.

    Raises:
        UsageError: no source, one twice, or a number out of range.
    """

    sources: tuple[str, ...]
    out: Path | None = None
    jobs: int = 1
    decode_photos: bool = False
    records: int = RECORDS
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("nothing to describe: name a shard, a folder, a JSON file or a pattern")
        short_names([Path(each) for each in self.sources])  # refuses one that is named twice
        if self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs} is too few: give at least 1")


def describe(job: DescribeJob, progress: Progress = lambda done, total: None) -> Description:
    """Describe data sets.

    Args:
        job: the data and the output.
        progress: called with the records that were read, and all of them.

    Raises:
        DataError: a source cannot be opened, none of its records can be used, or a process was killed.
        OutputError: the folder holds something else, or cannot be written.
        UsageError: a package is missing.
    """
    if job.out is not None:
        _check(job.out, overwrite=job.overwrite)
    sources = [open_source(each, photos_needed=False) for each in job.sources]
    parts = [(which, part) for which, source in enumerate(sources) for part in _parts(source, job)]
    kept = None if job.out is None else _settle(job, job.out, sources)
    results = [Statistics() for _ in sources]
    total, done = sum(map(len, sources)), 0
    waiting = []
    for number, (which, part) in enumerate(parts):
        found = None if kept is None else _kept(kept, number)
        if found is None:
            waiting.append((number, part))
        else:
            results[which].add(found)
            done += len(part.shard)
    progress(done, total)

    def told(records: int) -> None:
        nonlocal done
        done += records
        progress(done, total)

    for number, statistics in _surveyed(waiting, job.jobs, told):
        if kept is not None:
            write_file(_file(kept, number), json.dumps(statistics.to_json()).encode(), overwrite=True)
        results[parts[number][0]].add(statistics)
    for source, result in zip(sources, results, strict=True):
        if not result.photos:
            raise DataError(f"none of the {len(source)} records of {source.name} can be used: {_first(result)}")
    description = Description.of([source.name for source in sources], results)
    if job.out is not None and kept is not None:
        write_files({job.out / name: content for name, content in report_files(description).items()}, overwrite=True)
        shutil.rmtree(kept, ignore_errors=True)
    return description


def _first(result: Statistics) -> str:
    return str(next(iter(result.named.values())))


def _parts(source: Source, job: DescribeJob) -> Iterator[Part]:
    first = 0
    for shard in source.shards:
        for start in range(0, len(shard), job.records):
            numbers = np.arange(start, min(start + job.records, len(shard)))
            yield Part(shard.select(numbers), first + start, source.annotated, job.decode_photos)
        first += len(shard)


def _surveyed(
    waiting: Sequence[tuple[int, Part]], jobs: int, told: Callable[[int], None]
) -> Iterator[tuple[int, Statistics]]:
    """The statistics of parts by their numbers, in processes if there are several parts."""
    jobs = min(jobs, len(waiting))
    if jobs <= 1:
        yield from ((number, survey(part, told)) for number, part in waiting)
        return
    shares = [waiting[n::jobs] for n in range(jobs)]
    for kind, what in events_of(
        _work, shares, remedy="with --out, finished parts are kept: run the same command again"
    ):
        if kind == _READ:
            told(what)
        else:
            yield what


def _work(share: Sequence[tuple[int, Part]], send: Send) -> None:
    """The work of one process."""
    for number, part in share:
        statistics = survey(part, lambda records: send(_READ, records))
        send(_PART, (number, statistics))


def _check(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something else than a description or a begun one, and a finished one."""
    if out.is_dir() and all(path.name == DESCRIPTION_PARTS or is_staging(path) for path in out.iterdir()):
        return
    check_destination(out, overwrite=overwrite, foreign=foreign_in_description)


def _settle(job: DescribeJob, out: Path, sources: Sequence[Source]) -> Path:
    """The folder of finished parts, whose settings are those of the job; others are refused, or removed."""
    folder = out / DESCRIPTION_PARTS
    wanted = {
        "sources": [[source.name, len(source), _fingerprint(source)] for source in sources],
        "decode_photos": job.decode_photos,
        "records": job.records,
    }
    try:
        there = read_json(folder / SETTINGS)
    except (OSError, ValueError):
        there = None
    if there != wanted:
        if there is not None and not job.overwrite:
            raise OutputError(
                f"{out} holds a begun description of other data: give the same options to go on with it, choose "
                "another folder, or add --overwrite"
            )
        shutil.rmtree(folder, ignore_errors=True)
        write_file(folder / SETTINGS, json.dumps(wanted).encode(), overwrite=True)
    return folder


def _fingerprint(source: Source) -> str:
    """A hash of the records' names, and of size and time of tars and of JSON files about many photos."""
    digest = hashlib.sha256()
    for shard in source.shards:
        for number in range(len(shard)):
            digest.update("\0".join(shard.name(number)).encode("utf-8", "surrogateescape"))
        path = shard.path if isinstance(shard, TarShard) else None
        if isinstance(shard, FileShard) and shard.files[0].of_all:
            path = shard.files[0].record
        if path is not None:
            digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"


def _kept(folder: Path, number: int) -> Statistics | None:
    """The statistics of a finished part; None where it is not finished, or its file is damaged."""
    try:
        return Statistics.from_json(read_json(_file(folder, number)))
    except (OSError, ValueError, TypeError, KeyError):
        return None
