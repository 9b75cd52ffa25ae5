"""The statistics of some records of a shard. Photos are not decoded unless asked for: the records state their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import STORED, Record, parse_record
from sam_edge.data.shards import Shard
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge_runtime.errors import PhotoError
from sam_edge_runtime.photo.read import decode_photo, read_size

from .mask_shapes import mask_shapes
from .statistics import Statistics

TOLD_AFTER = 100  # records


@dataclass(frozen=True)
class Part:
    """Some records of a source.

    Attributes:
        shard: holds these records and no others.
        first: number of the first one in the source.
        annotated: whether the source has JSON files; a record without one is then broken.
        decode_photos: also decode each photo, which finds damaged ones.
    """

    shard: Shard
    first: int
    annotated: bool
    decode_photos: bool = False


def survey(part: Part, told: Callable[[int], None] = lambda records: None) -> Statistics:
    """Read each record of a part once.

    Args:
        part: the records.
        told: called every `TOLD_AFTER` records, and at the end, with how many were read since.
    """
    statistics = Statistics()
    for number in range(len(part.shard)):
        try:
            if part.annotated:
                record = _record(part, number)
                masks = [each.rle for each in record.annotations]
                crowds = sum(each.crowd and each.area > 0 for each in record.annotations)
                statistics.add_photo(record.size, mask_shapes(masks, record.size, record.lengths), crowds)
            else:
                statistics.add_photo(_photo_size(part, number))
        except BrokenRecordError as error:
            statistics.add_broken(part.first + number, Skip(*part.shard.name(number), str(error)))
        except PhotoError as error:
            statistics.add_broken(part.first + number, Skip(*part.shard.name(number), str(error)))
        if (number + 1) % TOLD_AFTER == 0:
            told(TOLD_AFTER)
    told(len(part.shard) % TOLD_AFTER)
    return statistics


def _record(part: Part, number: int) -> Record:
    def photo() -> bytes:
        return part.shard.read(number, photo_only=True).photo or b""

    if not part.shard.has_photo(number) and part.decode_photos:
        raise BrokenRecordError("its photo is missing")
    content = part.shard.read(number, record_only=True).record
    if content is None:
        raise BrokenRecordError("its JSON is missing")
    record = parse_record(content, photo)
    if part.decode_photos or record.orientation == STORED:
        _, record = decode_annotated(photo(), part.shard.name(number)[1], record)
    return record


def _photo_size(part: Part, number: int) -> tuple[int, int]:
    """(H, W) in pixels of a photo without a record, from its header."""
    content = part.shard.read(number, photo_only=True).photo
    if content is None:
        raise BrokenRecordError("its photo is missing")
    if part.decode_photos:
        height, width = decode_photo(content, part.shard.name(number)[1]).shape[:2]
        return height, width
    size = read_size(content)
    if size is None:
        raise BrokenRecordError("its photo is damaged, or no photo")
    return size
