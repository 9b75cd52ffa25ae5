"""A photo and its masks.

The masks stay run-length encoded until they are used. A hundred masks of an SA-1B photo take a third of a gigabyte as
pixels and some fifty kilobytes encoded, and training decodes only a few dozen of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic.rle import Rle

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """One record, read and checked.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        rles: M masks in COCO's compressed form, each of size [H, W]; none for a photo without annotations.
        source: path of the record's shard or folder.
        key: the record's name there: the photo's file name without its ending.
    """

    photo: Photo
    rles: tuple[Rle, ...]
    source: str
    key: str

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo in pixels."""
        height, width = self.photo.shape[:2]
        return height, width

    def masks(self, which: Sequence[int] | None = None) -> Masks:
        """The masks as pixels, decoded by pycocotools.

        Args:
            which: indices into `rles`; None for all.

        Returns:
            (M, H, W) bool; each mask lies column by column in memory, as its runs do.
        """
        from pycocotools import mask as coco  # noqa: PLC0415 - photos without masks do not need it

        chosen = [dict(rle) for rle in (self.rles if which is None else [self.rles[index] for index in which])]
        if not chosen:
            return np.zeros((0, *self.size), np.bool_)
        columns: npt.NDArray[np.uint8] = coco.decode(chosen)  # (H, W, M), column by column
        return columns.transpose(2, 0, 1).view(np.bool_)

    def boxes(self) -> npt.NDArray[np.float64]:
        """The masks' bounding boxes (M, 4) as x0, y0, x1, y1 in pixels; x1 and y1 lie one behind the last pixel."""
        from pycocotools import mask as coco  # noqa: PLC0415

        if not self.rles:
            return np.zeros((0, 4))
        boxes = np.array(coco.toBbox([dict(rle) for rle in self.rles]), np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes
