"""Near-duplicates: photos that show the same picture, and masks of a photo that show the same object.

A photo's hash is the difference hash (dHash, the idea of the package ImageHash): the photo in grey at 9 x 8 pixels, and
a bit for each pixel that is brighter than the one to its left. Sizes, compression and brightness hardly change it. Two
photos are near-duplicates when few of their 64 bits differ. Cut into one part more than bits may differ, two such
hashes have a part in common; so only hashes with an equal part are compared, not all pairs. Flat pictures have no
gradients and equal hashes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic.rle import Rle

SIDE = 8
BITS = SIDE * SIDE
DISTANCE = 6  # bits
SAME_MASK = 0.9  # IoU


def difference_hash(photo: Photo) -> int:
    """The hash, of 64 bits, of a photo (H, W, 3) uint8 RGB."""
    grey = Image.fromarray(photo).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey, np.int16)
    brighter = (pixels[:, 1:] > pixels[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in brighter), 2)


class PhotoHashes:
    """The photos seen so far, by their hashes.

    Args:
        distance: most bits in which near-duplicates differ, below 64.
    """

    def __init__(self, distance: int = DISTANCE) -> None:
        self._distance = distance
        bounds = np.linspace(0, BITS, distance + 2).astype(int).tolist()
        self._parts = [(start, (1 << end - start) - 1) for start, end in pairwise(bounds)]
        self._seen: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)

    def find(self, hashed: int) -> str | None:
        """The name of a photo with nearly this hash; None where there is none."""
        for place in self._places(hashed):
            for other, name in self._seen.get(place, ()):
                if (hashed ^ other).bit_count() <= self._distance:
                    return name
        return None

    def add(self, hashed: int, name: str) -> None:
        """Remember a photo."""
        for place in self._places(hashed):
            self._seen[place].append((hashed, name))

    def _places(self, hashed: int) -> list[tuple[int, int]]:
        return [(number, hashed >> start & mask) for number, (start, mask) in enumerate(self._parts)]


def repeated_masks(rles: Sequence[Rle], same: float = SAME_MASK) -> int:
    """How many of a photo's masks repeat an earlier one: their IoU is `same` or more."""
    from pycocotools import mask as coco  # noqa: PLC0415 - evaluate extra

    if len(rles) < 2:
        return 0
    masks = [dict(each) for each in rles]
    ious = np.asarray(coco.iou(masks, masks, [0] * len(masks)))
    return int((np.tril(ious, -1) >= same).any(axis=1).sum())
