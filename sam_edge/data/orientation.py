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

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.photo.read import decode_photo, read_orientation

from .sa1b import STORED, Annotation, Box, Record, bbox_of
from .skips import BrokenRecordError


@dataclass(frozen=True)
class Turn:
    """How an orientation turns the stored picture upright: transpose it, then flip its columns and rows."""

    transpose: bool
    columns: bool
    rows: bool

    def mask(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask `(H, W)` of the stored frame in the upright frame."""
        turned = mask.T if self.transpose else mask
        return np.ascontiguousarray(turned[:: -1 if self.rows else 1, :: -1 if self.columns else 1])

    def point(self, x: float, y: float, upright: tuple[int, int]) -> tuple[float, float]:
        """A point in pixels; `upright` is (H, W) of the upright frame."""
        x, y = (y, x) if self.transpose else (x, y)
        return (upright[1] - x if self.columns else x), (upright[0] - y if self.rows else y)

    def box(self, box: Box, upright: tuple[int, int]) -> Box:
        """A rectangle x, y, width, height in pixels."""
        x, y, width, height = box
        (x0, y0), (x1, y1) = self.point(x, y, upright), self.point(x + width, y + height, upright)
        return min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)


# EXIF 2.3, tag 274.
TURNS = {
    1: Turn(False, False, False),
    2: Turn(False, True, False),
    3: Turn(False, True, True),
    4: Turn(False, False, True),
    5: Turn(True, False, False),
    6: Turn(True, True, False),
    7: Turn(True, True, True),
    8: Turn(True, False, True),
}


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
    turn = TURNS[orientation]
    stored = size[::-1] if turn.transpose else size
    if record.size != stored or (record.orientation not in (None, STORED)):
        turned = f" upright (its EXIF orientation is {orientation})" if orientation != 1 else ""
        raise BrokenRecordError(f"its photo has the size {list(size)}{turned}, and its JSON says {list(record.size)}")
    return photo, Record(size, tuple(_turned(each, turn, size) for each in record.annotations))


def _turned(annotation: Annotation, turn: Turn, size: tuple[int, int]) -> Annotation:
    mask = rle.encode(turn.mask(rle.decode(annotation.rle)))
    x, y, width, height = bbox_of(mask)
    return replace(
        annotation,
        rle=mask,
        bbox=(x, y, width, height),
        crop_box=None if annotation.crop_box is None else turn.box(annotation.crop_box, size),
        point_coords=tuple(turn.point(x, y, size) for x, y in annotation.point_coords),
    )
