"""`sam-edge data convert`: a data set in another tool's format.

Records are read and written one by one into a folder beside the destination, which is renamed at the end. So an
interrupted run leaves nothing, and a killed one a folder that the next run with this destination removes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import Source, open_source
from sam_edge_runtime.errors import DataError, PhotoError, UsageError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.folders import check_destination, others_than, staged_folder

from .entries import entries
from .writers import WRITERS
from .writers.format import Loss, Writer

CONVERSION = "sam-edge-conversion"
NOTE = ".sam-edge-conversion.json"  # what was written into a folder; readers pass over hidden files
NAMED = 1000  # records left out that are named
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConvertJob:
    """The data and their new format.

    Attributes:
        source: path or pattern, as `open_source` takes it.
        out: folder to write.
        to: a key of `WRITERS`.
        masks: form of the masks, one of the format's; None for its default.
        with_photos: also write the photos.
        photos: folder of the photos; None: they lie where the source says.
        overwrite: replace an earlier conversion.

    Raises:
        UsageError: an unknown format or form.
    """

    source: str
    out: Path
    to: str
    masks: str | None = None
    with_photos: bool = False
    photos: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.to not in WRITERS:
            raise UsageError(f"there is no format {self.to!r:.60}: choose {', '.join(WRITERS)}")
        forms = WRITERS[self.to].masks
        if self.masks is not None and self.masks not in forms:
            choice = f"choose {', '.join(forms)}" if forms else "it has only one form, so leave --masks out"
            raise UsageError(f"{self.to} has no masks in the form {self.masks!r:.60}: {choice}")
        if self.photos is not None and not self.photos.is_dir():
            raise UsageError(f"--photos {self.photos} is no folder: name the one that holds the photos")


@dataclass
class Converted:
    """The result.

    Attributes:
        photos: records that were written.
        loss: what their masks have lost.
        left_out: how many records were not.
        named: some of these, with the reasons.
    """

    photos: int = 0
    loss: Loss = field(default_factory=Loss)
    left_out: int = 0
    named: list[Skip] = field(default_factory=list)


def convert(job: ConvertJob, progress: Progress = lambda done, total: None) -> Converted:
    """Write a data set in another format.

    Args:
        job: the data and the format.
        progress: called with the records that are done, and all of them.

    Raises:
        DataError: the source cannot be opened, has no masks, or none of its records can be used.
        OutputError: the folder exists and may not be replaced, or cannot be written.
        UsageError: a package is missing.
    """
    check_destination(job.out, overwrite=job.overwrite, foreign=foreign_in_conversion)
    source = open_source(job.source, photos_needed=False)
    if not source.annotated:
        raise DataError(f"{job.source} has photos without masks: name an annotation")
    result = Converted()
    with staged_folder(job.out, overwrite=job.overwrite, foreign=foreign_in_conversion) as folder:
        with_photos = job.with_photos or WRITERS[job.to].photos
        writer = WRITERS[job.to](folder, job.masks, with_photos=with_photos)
        _write_all(job, source, writer, result, progress)
        if not result.photos:
            raise DataError(f"none of the {len(source)} records of {job.source} can be converted: {result.named[0]}")
        result.loss = writer.loss
        _note(folder, job)
    return result


def _write_all(job: ConvertJob, source: Source, writer: Writer, result: Converted, progress: Progress) -> None:
    def skipped(skip: Skip) -> None:
        result.left_out += 1
        if len(result.named) < NAMED:
            result.named.append(skip)

    found = entries(source, skipped, with_photos=writer.with_photos, photo_folder=job.photos, dots=writer.dots)
    try:
        for entry in found:
            try:
                writer.add(entry)
                result.photos += 1
            except (BrokenRecordError, PhotoError) as error:
                skipped(Skip(job.source, entry.stem, str(error)))
            progress(result.photos + result.left_out, len(source))
    finally:
        writer.finish()


def foreign_in_conversion(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `convert` did not write; None where it holds no conversion."""
    try:
        document = read_json(folder / NOTE)
        if document["format"] != CONVERSION:
            return None
        files = frozenset(document["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return others_than(folder, lambda name: name == NOTE or name in files)


def _note(folder: Path, job: ConvertJob) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    document = {"format": CONVERSION, "to": job.to, "files": files}
    (folder / NOTE).write_text(json.dumps(document, indent=0), encoding="utf-8")
