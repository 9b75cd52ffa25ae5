"""Photos as SA-1B has them: made smaller until the shorter side has 1500 pixels, never larger.

"Segment Anything" (https://arxiv.org/abs/2304.02643, section 5, "Images"): photos of 3300 x 4950 pixels on average were
released with a shorter side of 1500, for size on disk and to be easy to use. `shrunk` wraps a source, so everything
that reads sources reads the smaller photos. Masks and points are made smaller with them; an upright photo in a new JPEG
file replaces the stored one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import Annotation, Box, parse_record
from sam_edge.data.shards import Chosen, RawRecord, Shard
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import Source
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.photo.read import decode_photo, read_size
from sam_edge_runtime.photo.write import jpeg_bytes

from .record import kept_mask, record_bytes, sa1b_record

QUALITY = 95  # of the JPEG file
LEAST = 32  # pixels; smaller photos show nothing


def shrunk(source: Source, short_side: int | None) -> Source:
    """The source with photos whose shorter side has at most `short_side` pixels; None leaves it as it is.

    Raises:
        UsageError: fewer than `LEAST` pixels.
    """
    if short_side is None:
        return source
    if short_side < LEAST:
        raise UsageError(f"--short-side {short_side} is too small: give at least {LEAST}, as SA-1B 1500")
    return replace(source, shards=tuple(ShrunkShard(shard, short_side) for shard in source.shards))


@dataclass(frozen=True, eq=False)
class ShrunkShard:
    """A shard whose photos are made smaller as they are read.

    Attributes:
        shard: with the photos as they are stored.
        short_side: largest shorter side in pixels.
    """

    shard: Shard
    short_side: int

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def annotated(self) -> bool:
        """Whether any record has a JSON file."""
        return self.shard.annotated

    def name(self, number: int) -> tuple[str, str]:
        """Source and key of a record."""
        return self.shard.name(number)

    def has_photo(self, number: int) -> bool:
        """Whether a record has a photo, as far as can be told without reading it."""
        return self.shard.has_photo(number)

    def read(self, number: int, *, photo_only: bool = False, record_only: bool = False) -> RawRecord:
        """One record, without its JSON if `photo_only`, and without its photo if `record_only`.

        Raises:
            BrokenRecordError: it cannot be read.
        """
        whole = smaller(self.shard.read(number, photo_only=photo_only), self.short_side)  # masks shrink with the photo
        return replace(whole, photo=None) if record_only else whole

    def stream(self, *, photo_only: bool = False) -> Iterator[RawRecord | Skip]:
        """All records; a `Skip` for one that cannot be read."""
        for raw in self.shard.stream(photo_only=photo_only):
            if isinstance(raw, Skip):
                yield raw
                continue
            try:
                yield smaller(raw, self.short_side)
            except BrokenRecordError as error:
                yield Skip(raw.source, raw.key, str(error))

    def select(self, chosen: Chosen) -> ShrunkShard:
        """A shard with some of the records."""
        return ShrunkShard(self.shard.select(chosen), self.short_side)


def smaller(raw: RawRecord, short_side: int) -> RawRecord:
    """The record with a photo whose shorter side has `short_side` pixels; unchanged where it has no more.

    Raises:
        BrokenRecordError: a larger photo, or its masks, cannot be read.
    """
    size = None if raw.photo is None else read_size(raw.photo)
    if raw.photo is None or size is None or min(size) <= short_side:
        return raw
    try:
        if raw.record is None:
            return replace(raw, photo=jpeg_bytes(_resized(decode_photo(raw.photo, raw.key), short_side), QUALITY))
        photo, record = decode_annotated(raw.photo, raw.key, parse_record(raw.record, raw.photo))
    except PhotoError as error:
        raise BrokenRecordError(str(error)) from error
    picture = _resized(photo, short_side)
    height, width = picture.shape[:2]
    scale = (width / photo.shape[1], height / photo.shape[0])
    masks = [kept_mask(_scaled(each, (height, width), scale)) for each in record.annotations]
    key = raw.key.rpartition("/")[2]
    document = sa1b_record(key, f"{key}.jpg", (height, width), masks, 0)
    return replace(raw, photo=jpeg_bytes(picture, QUALITY), record=record_bytes(document))


def _resized(photo: Photo, short_side: int) -> Photo:
    height, width = photo.shape[:2]
    scale = short_side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))


def _scaled(mask: Annotation, size: tuple[int, int], scale: tuple[float, float]) -> Annotation:
    """A mask of a smaller photo: pixels of which it covers half or more. One that vanishes stays, with no pixel."""
    pixels: Mask = rle.decode(mask.rle)
    picture = Image.fromarray(pixels.astype(np.uint8) * np.uint8(255))
    kept = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX)) >= 128
    x, y = scale
    crop: Box | None = None
    if mask.crop_box is not None:
        left, top, width, height = mask.crop_box
        crop = (left * x, top * y, width * x, height * y)
    points = tuple((px * x, py * y) for px, py in mask.point_coords)
    return replace(mask, rle=rle.encode(kept), area=int(kept.sum()), bbox=None, crop_box=crop, point_coords=points)
