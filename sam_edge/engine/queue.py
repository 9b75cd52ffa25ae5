"""A round's photos: the next of the source in the order of the seed, each in one round only.

Photos are made smaller as SA-1B's were. A near-duplicate of an earlier photo is left out, and so is a photo without
masks where the simulated annotator would have nothing to draw. `queue.json` says which, and why.

    queue/photos/KEY.jpg     what the annotation server and `annotate` read
    queue/given/KEY.json     the true masks, for the simulated annotator
    queue/queue.json         {"next", "photos": [key, ..], "hashes": {key: hash}, "duplicates": {key: earlier},
                             "left_out": {key: reason}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_edge.annotation.duplicates import PhotoHashes, difference_hash
from sam_edge.annotation.pieces import packed
from sam_edge.annotation.record import distinct_names, kept_mask, record_bytes, sa1b_record
from sam_edge.annotation.short_side import shrunk
from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import Annotation, parse_record
from sam_edge.data.shards import RawRecord
from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import Source
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.errors import DataError, PhotoError
from sam_edge_runtime.photo.read import decode_photo
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.folders import staged_folder

from .folder import RoundFolder, read_document

QUEUE_FILE = "queue.json"
PHOTOS, GIVEN = "photos", "given"


@dataclass(frozen=True)
class Intake:
    """Which photos a round takes.

    Attributes:
        source: of all photos.
        photos: how many.
        short_side: see `Loop`; 0 leaves them as they are.
        masks: whether the true masks are needed.
        seed: of the order.
    """

    source: Source
    photos: int
    short_side: int
    masks: bool
    seed: int

    def numbers(self, start: int) -> list[int]:
        """The photos' numbers in the source, from place `start` of the order on."""
        order: list[int] = np.random.default_rng(self.seed).permutation(len(self.source)).tolist()
        return order[start:]


def fill_queue(intake: Intake, folder: RoundFolder, earlier: Sequence[RoundFolder]) -> dict[str, Any]:
    """Take the round's photos, once.

    Args:
        intake: which photos.
        folder: of the round.
        earlier: of the rounds before, whose photos are not taken again.

    Returns:
        The content of `queue.json`.

    Raises:
        DataError: no photo is left.
        OutputError: the queue cannot be written.
    """
    there = read_document(folder.queue / QUEUE_FILE)
    if there is not None:
        return there
    before = [document for each in earlier if (document := read_document(each.queue / QUEUE_FILE)) is not None]
    hashes = PhotoHashes()
    for document in before:
        for key, hashed in document["hashes"].items():
            hashes.add(int(hashed, 16), key)
    place = before[-1]["next"] if before else 0
    source = shrunk(intake.source, intake.short_side or None)
    document = {"next": place, "photos": [], "hashes": {}, "duplicates": {}, "left_out": {}}
    with staged_folder(folder.queue, overwrite=False, foreign=lambda path: None) as staging:
        for name in (PHOTOS, GIVEN):
            (staging / name).mkdir()
        for number in intake.numbers(place):
            if len(document["photos"]) == intake.photos:
                break
            document["next"] += 1
            key = _key(source, number, document["photos"])
            try:
                raw, photo, masks = _read(source.read(number, photo_only=not intake.masks), needs_masks=intake.masks)
            except (BrokenRecordError, PhotoError) as error:
                document["left_out"][key] = str(error)
                continue
            hashed = difference_hash(photo)
            twin = hashes.find(hashed)
            if twin is not None:
                document["duplicates"][key] = twin
                continue
            hashes.add(hashed, key)
            ending, content = packed(raw, key)
            (staging / PHOTOS / f"{key}.{ending}").write_bytes(content)
            if intake.masks:
                kept = [kept_mask(each) for each in masks]
                record = sa1b_record(key, f"{key}.{ending}", (photo.shape[0], photo.shape[1]), kept, number)
                (staging / GIVEN / f"{key}.json").write_bytes(record_bytes(record))
            document["photos"].append(key)
            document["hashes"][key] = f"{hashed:016x}"
        if not document["photos"]:
            why = next(iter(document["left_out"].values()), "all of them were taken, or are duplicates")
            raise DataError(f"{intake.source.name} has no photo left for round {folder.number}: {why}")
        (staging / QUEUE_FILE).write_text(json_text(document), encoding="utf-8")
    return document


def _key(source: Source, number: int, taken: Sequence[str]) -> str:
    """A name for a photo, of its own in the queue."""
    name = source.record_name(number)[1].replace("\\", "/").rsplit("/", 1)[-1].replace(".", "_")
    return distinct_names([*taken, name or f"photo_{number:08d}"])[-1]


def _read(raw: RawRecord, *, needs_masks: bool) -> tuple[bytes, Photo, tuple[Annotation, ...]]:
    """The photo's file and its pixels, and its masks if they are needed.

    Raises:
        BrokenRecordError, PhotoError: it cannot be used.
    """
    if raw.photo is None:
        raise BrokenRecordError("its photo is missing")
    if not needs_masks:
        return raw.photo, decode_photo(raw.photo, raw.key), ()
    if raw.record is None:
        raise BrokenRecordError("its JSON is missing")
    photo, record = decode_annotated(raw.photo, raw.key, parse_record(raw.record, raw.photo))
    masks = tuple(each for each in record.annotations if each.area)
    if not masks:
        raise BrokenRecordError("it has no masks to draw from")
    return raw.photo, photo, masks
