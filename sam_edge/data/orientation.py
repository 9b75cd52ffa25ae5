"""The frame that a record's masks refer to, and photo and masks turned upright together.

Cameras store the sensor's rows and note in EXIF how to turn them. `cv2.imread`, browsers and most annotation tools show
the upright photo; `PIL.Image.open` alone does not. So a record's masks may refer to either frame:

| record | frame of its masks |
|---|---|
| `image` has `"orientation": "upright"` or `"stored"` | as it says; sam-edge writes `upright` |
| its width and height are the stored picture's, and not the upright photo's | stored |
| otherwise, also where both sizes are equal (half turns, mirrors, squares) | upright |

Every reader of `sam_edge.data` gives the upright photo. Masks of a stored frame are turned with it.
"""

from __future__ import annotations

from dataclasses import replace

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.photo.orientation import TURNS, Turn, upright
from sam_edge_runtime.photo.read import decode_photo, read_orientation

from .sa1b import STORED, Annotation, Box, Record, bbox_of
from .skips import BrokenRecordError


def decode_annotated(content: bytes, key: str, record: Record) -> tuple[Photo, Record]:
    """The upright photo of a record, and the record in the upright frame.

    Args:
        content: the photo's file.
        key: the record's name, for errors.
        record: its annotations, in the frame that the rule of this module says.

    Raises:
        PhotoError: the photo cannot be read.
        BrokenRecordError: photo and record differ in size.
    """
    photo = decode_photo(content, key)
    size = photo.shape[0], photo.shape[1]
    if record.size == size and record.orientation != STORED:
        return photo, record
    orientation = read_orientation(content)
    stored = size[::-1] if TURNS[orientation].transpose else size
    if record.size != stored or (record.orientation not in (None, STORED)):
        turned = f" upright (its EXIF orientation is {orientation})" if orientation != 1 else ""
        raise BrokenRecordError(f"its photo has the size {list(size)}{turned}, and its JSON says {list(record.size)}")
    return photo, Record(size, tuple(_turned(each, orientation, size) for each in record.annotations))


def _turned(annotation: Annotation, orientation: int, size: tuple[int, int]) -> Annotation:
    """An annotation of the stored frame in the upright frame of (H, W) `size`."""
    turn = TURNS[orientation]
    mask = rle.encode(upright(rle.decode(annotation.rle), orientation))
    x, y, width, height = bbox_of(mask)
    return replace(
        annotation,
        rle=mask,
        bbox=(x, y, width, height),
        crop_box=None if annotation.crop_box is None else _turned_box(annotation.crop_box, turn, size),
        point_coords=tuple(_turned_point(x, y, turn, size) for x, y in annotation.point_coords),
    )


def _turned_point(x: float, y: float, turn: Turn, size: tuple[int, int]) -> tuple[float, float]:
    x, y = (y, x) if turn.transpose else (x, y)
    return (size[1] - x if turn.columns else x), (size[0] - y if turn.rows else y)


def _turned_box(box: Box, turn: Turn, size: tuple[int, int]) -> Box:
    x, y, width, height = box
    (x0, y0), (x1, y1) = _turned_point(x, y, turn, size), _turned_point(x + width, y + height, turn, size)
    return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)
