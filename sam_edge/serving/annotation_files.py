"""The records of all photos on disk. They are the only state: a server that starts again goes on from them.

A record is written anew for each change, beside its old content, flushed to the disk and renamed. So a kill at any
moment leaves the state before a request or after it. The photo is put beside its record, as a second name of the same
file where the file system can, else as a copy; so the folder is a data set as it stands.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from sam_edge.annotation.record import record_bytes
from sam_edge.data.pairs import RECORD_ENDING
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.errors import DataError, OutputError
from sam_edge_runtime.system.documents import LARGEST_DOCUMENT
from sam_edge_runtime.system.files import flush_file, flush_folder, output_error, replace_durably, staging_name
from sam_edge_runtime.system.text import read_regular

from .annotation_record import PhotoRecord
from .existing_masks import ExistingMasks
from .photo_queue import PhotoQueue, QueuedPhoto
from .session_folder import SessionFolder

_KEPT_ANSWERS = 256
Answer = dict[str, Any]


@dataclass(frozen=True)
class MaskFigures:
    """What statistics need of a mask: area in pixels, source, name, annotator, and seconds spent on it."""

    area: int
    source: str
    name: str | None
    annotator: str | None
    seconds: float | None


@dataclass(frozen=True)
class PhotoFigures:
    """What statistics need of a photo.

    Attributes:
        pixels: H * W.
        done: whether it is finished.
        seconds: spent on it.
        masks: figures of its masks.
    """

    pixels: int
    done: bool
    seconds: float
    masks: tuple[MaskFigures, ...]

    @classmethod
    def of(cls, record: PhotoRecord) -> PhotoFigures:
        """The figures of a record."""
        masks = tuple(
            MaskFigures(mask.annotation.area, mask.source, mask.name, mask.annotator, mask.seconds)
            for mask in record.masks
        )
        return cls(record.size[0] * record.size[1], record.done, record.seconds, masks)


@dataclass(frozen=True)
class Change:
    """A change of one record.

    Attributes:
        apply: gives the new record and the answer.
        repeated: gives the answer where the change was carried out before a restart.
        request: id of the request; None for one that has none.
    """

    apply: Callable[[PhotoRecord], tuple[PhotoRecord, Answer]]
    repeated: Callable[[PhotoRecord], Answer]
    request: str | None


class AnnotationFiles:
    """The records of a queue in a folder. Methods may be called from several threads.

    Args:
        folder: of the session.
        queue: the photos.
        existing: masks that are there already; None where there are none.

    Attributes:
        figures: of each photo that has a record, by key.
        warnings: why existing masks of photos cannot be used, by key, of those that were opened.

    Raises:
        DataError: a record there is damaged.
        OutputError: the folder cannot be read.
    """

    def __init__(self, folder: SessionFolder, queue: PhotoQueue, existing: ExistingMasks | None = None) -> None:
        self._folder, self._queue, self._existing = folder, queue, existing
        self._lock = Lock()
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._begun: OrderedDict[str, PhotoRecord] = OrderedDict()  # of photos without a record, the last few
        self.figures: dict[str, PhotoFigures] = {}
        self.warnings: dict[str, str] = {}
        for photo in queue.photos.values():
            record = self._stored(photo)
            if record is not None:
                self.figures[photo.key] = PhotoFigures.of(record)
            else:
                place = folder.path / photo.own_file_name
                with suppress(OSError):  # it is not there, as it should be
                    if _is_copy(place, photo):  # a kill came between photo and record
                        place.unlink()

    def read(self, key: str) -> PhotoRecord:
        """A photo's record; of one that nobody has worked on, the existing masks.

        Raises:
            PhotoError: the photo cannot be read.
            DataError: the record is damaged.
        """
        photo = self._queue.photos[key]
        stored = self._stored(photo)
        if stored is not None:
            return stored
        size = self._queue.size(key)
        if self._existing is None:
            return PhotoRecord(size)
        begun = self._begun.get(key)
        if begun is None:
            try:
                begun = PhotoRecord.begun(size, self._existing.of(photo, size, self._queue.content(key)))
            except DataError as error:  # people draw those masks, too
                begun = PhotoRecord(size)
                self.warnings[key] = str(error)
            self._begun[key] = begun
            while len(self._begun) > _KEPT_ANSWERS:
                self._begun.popitem(last=False)
        return begun

    def change(self, key: str, change: Change) -> Answer:
        """Carry a change out, once: a request that comes again gets the same answer.

        Raises:
            PhotoError: the photo cannot be read.
            DataError: the record is damaged.
            OutputError: the record cannot be written; it is as it was.
        """
        with self._lock:
            if change.request is not None and (key, change.request) in self._answers:
                return self._answers[key, change.request]
            record = self.read(key)
            if change.request is not None and change.request in record.requests:
                return change.repeated(record)
            changed, answer = change.apply(record)
            self._write(self._queue.photos[key], changed.carried_out(change.request))
            self.figures[key] = PhotoFigures.of(changed)
            self._begun.pop(key, None)
            if change.request is not None:
                self._answers[key, change.request] = answer
                while len(self._answers) > _KEPT_ANSWERS:
                    self._answers.popitem(last=False)
            return answer

    def _path(self, photo: QueuedPhoto) -> Path:
        return self._folder.path / f"{photo.key}{RECORD_ENDING}"

    def _stored(self, photo: QueuedPhoto) -> PhotoRecord | None:
        """The record on disk; None where there is none."""
        path = self._path(photo)
        try:
            return PhotoRecord.parse(read_regular(path, LARGEST_DOCUMENT))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, BrokenRecordError) as error:
            raise DataError(f"{path} cannot be read ({error}): repair it, or move it away") from error

    def _write(self, photo: QueuedPhoto, record: PhotoRecord) -> None:
        self._place(photo)
        document = record.document(photo.key, photo.own_file_name, photo.number)
        replace_durably(self._path(photo), record_bytes(document))

    def _place(self, photo: QueuedPhoto) -> None:
        """Put the photo beside its record, if it is not there yet."""
        place = self._folder.path / photo.own_file_name
        try:
            if place.exists():
                if _is_copy(place, photo):
                    return
                raise OutputError(
                    f"{place.name} beside the records is another photo than the queue's: move one of them away"
                )
            try:
                os.link(photo.path.resolve(), place)
            except FileExistsError:
                return
            except OSError:  # another file system, or one without links
                staging = place.parent / staging_name()
                try:
                    shutil.copyfile(photo.path, staging)
                    flush_file(staging)
                    staging.replace(place)
                finally:
                    staging.unlink(missing_ok=True)
            flush_folder(place.parent)
        except OSError as error:
            raise output_error(place, error) from error


def _is_copy(place: Path, photo: QueuedPhoto) -> bool:
    """Whether a file is the queue's photo under a second name, or a copy of it by its size.

    Raises:
        OSError: one of them is gone.
    """
    return place.samefile(photo.path) or place.stat().st_size == photo.path.stat().st_size


def check_apart(photos: Path, out: Path) -> None:
    """Refuse to write records among the photos: a photo without a record would be a broken one there.

    Raises:
        OutputError: both are one folder.
    """
    if photos.resolve() == out.resolve():
        raise OutputError(f"--out {out} is the folder of photos: choose another, the photos get a name there, too")
