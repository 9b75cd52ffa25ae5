"""One process's pieces: photos in, records out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_edge.data.sa1b import Annotation, parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import Source
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.errors import PhotoError
from sam_edge_runtime.photo.read import decode_photo

from .pieces import PieceFolder, ending_of, keys_of
from .record import kept, record_bytes, sa1b_record

Tell = Callable[[str, str], None]  # "done" or "failed", and which photo, with the reason


@dataclass(frozen=True, eq=False)
class _Taken:
    """A photo that is being searched."""

    number: int
    photo: Photo
    ending: str
    existing: tuple[Annotation, ...]


def annotate_piece(
    folder: PieceFolder, source: Source, finds: AutomaticMaskGenerator, existing: bool, tell: Tell
) -> None:
    """Find everything in the photos of a piece that are not done, and pack the piece.

    Photos are taken as their pixels are stored, whatever EXIF says, because that is how a reader of the shard will see
    them beside the masks.

    Args:
        folder: of the piece.
        source: where its records are.
        finds: the masks.
        existing: keep the masks that the source has, and look for others where they are not.
        tell: told of each photo.

    Raises:
        BackendError: the engine failed.
        OutputError: a result cannot be written.
    """
    piece = folder.piece
    if folder.complete:
        folder.clear()
        return
    keys = keys_of(source, piece)
    taken: deque[_Taken] = deque()  # asked for, and not answered yet

    def photos() -> Iterator[Photo]:
        for number in folder.open_numbers():
            try:
                one = _take(source, number, existing=existing)
                finds.check(one.photo)
            except (BrokenRecordError, PhotoError) as error:
                folder.fail(number, str(error))
                tell("failed", f"{keys[number]}: {error}")
            else:
                taken.append(one)
                yield one.photo

    def covered() -> Iterator[Mask | None]:
        while True:
            yield _union(taken[-1].existing, taken[-1].photo.shape[:2])

    for masks in finds.generate_many(photos(), covered()):
        one = taken.popleft()
        size = one.photo.shape[0], one.photo.shape[1]
        found = [*map(kept, one.existing), *masks]
        key = keys[one.number]
        record = sa1b_record(key, f"{key}.{one.ending}", size, found, one.number)
        folder.finish(one.number, record_bytes(record))
        tell("done", key)
    folder.pack(source, keys)


def _take(source: Source, number: int, *, existing: bool) -> _Taken:
    """A record's photo, and its masks where they are wanted.

    Raises:
        BrokenRecordError, PhotoError: it cannot be used.
    """
    raw = source.read(number, photo_only=not existing)
    if raw.photo is None:
        raise BrokenRecordError("its photo is missing")
    photo = decode_photo(raw.photo, raw.key, upright=False)
    annotations: tuple[Annotation, ...] = ()
    if existing and raw.record is not None:
        record = parse_record(raw.record)
        if record.size != photo.shape[:2]:
            raise BrokenRecordError(f"its photo has the size {photo.shape[:2]} where its JSON says {record.size}")
        annotations = record.annotations
    return _Taken(number, photo, ending_of(raw.photo), annotations)


def _union(annotations: Sequence[Annotation], size: tuple[int, ...]) -> Mask | None:
    """Where any of the masks lies; None where there are none."""
    if not annotations:
        return None
    covered: Any = np.zeros(size, np.bool_)
    for annotation in annotations:
        covered |= rle.decode(annotation.rle)
    return np.asarray(covered, np.bool_)
