"""Annotates a piece: photos in, records out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import Annotation, parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import Source
from sam_edge.prediction.naming import Namer
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.errors import PhotoError
from sam_edge_runtime.photo.read import decode_photo

from .pieces import PieceFolder, keys_of, packed_ending
from .record import kept_mask, record_bytes, sa1b_record

Report = Callable[[str, str], None]  # "done" or "failed", and the photo's name, with the reason


@dataclass(frozen=True, eq=False)
class _Photo:
    """A photo in the generator, with its number in the source and its existing masks."""

    number: int
    photo: Photo
    ending: str
    existing: tuple[Annotation, ...]


def annotate_piece(
    folder: PieceFolder,
    source: Source,
    generator: AutomaticMaskGenerator,
    existing: bool,
    report: Report,
    namer: Namer | None = None,
) -> None:
    """Find the masks of a piece's unfinished photos, and pack the piece.

    Masks refer to the upright photo, as readers of the shard show it; photos that they would show otherwise are
    rewritten (`pieces.packed`).

    Args:
        folder: files of the piece.
        source: its records.
        generator: finds the masks.
        existing: keep the masks of the source, and search only what they do not cover.
        report: called after each photo.
        namer: names the masks; None: they get no names.

    Raises:
        BackendError: the engine failed.
        OutputError: a result cannot be written.
    """
    piece = folder.piece
    if folder.complete:
        folder.clear()
        return
    keys = keys_of(source, piece)
    pending: deque[_Photo] = deque()  # in the generator

    def photos() -> Iterator[Photo]:
        for number in folder.open_numbers():
            try:
                one = _read(source, number, existing=existing)
                generator.check(one.photo)
            except (BrokenRecordError, PhotoError) as error:
                folder.fail(number, str(error))
                report("failed", f"{keys[number]}: {error}")
            else:
                pending.append(one)
                yield one.photo

    def covered() -> Iterator[Mask | None]:
        while True:
            yield _union(pending[-1].existing, pending[-1].photo.shape[:2])

    for masks in generator.generate_many(photos(), covered()):
        one = pending.popleft()
        size = one.photo.shape[0], one.photo.shape[1]
        all_masks = [*map(kept_mask, one.existing), *masks]
        if namer is not None:
            all_masks = namer.named(one.photo, all_masks)
        key = keys[one.number]
        record = sa1b_record(key, f"{key}.{one.ending}", size, all_masks, one.number)
        folder.finish(one.number, record_bytes(record))
        report("done", key)
    folder.pack(source, keys)


def _read(source: Source, number: int, *, existing: bool) -> _Photo:
    """Read a record's photo, and its masks if they are kept.

    Raises:
        BrokenRecordError, PhotoError: the record cannot be used.
    """
    raw = source.read(number, photo_only=not existing)
    if raw.photo is None:
        raise BrokenRecordError("its photo is missing")
    if not existing or raw.record is None:
        return _Photo(number, decode_photo(raw.photo, raw.key), packed_ending(raw.photo), ())
    photo, record = decode_annotated(raw.photo, raw.key, parse_record(raw.record, raw.photo))
    return _Photo(number, photo, packed_ending(raw.photo), record.annotations)


def _union(annotations: Sequence[Annotation], size: tuple[int, ...]) -> Mask | None:
    """The union `(H, W)` of the masks; None if there are none."""
    if not annotations:
        return None
    covered: Any = np.zeros(size, np.bool_)
    for annotation in annotations:
        covered |= rle.decode(annotation.rle)
    return np.asarray(covered, np.bool_)
