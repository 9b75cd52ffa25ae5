"""CVAT's run-length encoding of a mask, which covers the mask's bounding box only.

    {"rle": [2, 3, 1], "left": 5, "top": 7, "width": 3, "height": 2}

The lengths are counted row by row, zeros first, in a box whose first pixel is x = `left`, y = `top`
(https://docs.cvat.ai/docs/other/xml_format, "mask").
"""

from __future__ import annotations

from collections.abc import Mapping

from sam_edge.data.numbers import integer
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.automatic.rle import Rle

from .pixels import from_rows, placed


def tight_rle(segmentation: Mapping[str, object], size: tuple[int, int]) -> Rle:
    """A mask of CVAT in a photo of (H, W) `size`.

    Raises:
        BrokenRecordError: a member is missing or damaged, or the box reaches beyond the photo.
    """
    left, top, width, height = (integer(segmentation.get(name)) for name in ("left", "top", "width", "height"))
    if left is None or top is None or width is None or height is None or min(width, height) < 1:
        raise BrokenRecordError("its tight RLE (CVAT) has no integers left, top, width and height")
    if height > size[0] or width > size[1]:
        raise BrokenRecordError(f"its tight RLE (CVAT) of {width}x{height} pixels is larger than the photo")
    return placed(from_rows(segmentation["rle"], (height, width)), (left, top), size)
