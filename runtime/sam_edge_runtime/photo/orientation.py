"""EXIF's orientations (EXIF 2.3, tag 274): how each turns the stored picture upright.

Done by numpy, because Pillow's `exif_transpose` rewrites the whole EXIF block, which fails on damaged ones, and holds
two more copies of a photo.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Pixel = TypeVar("Pixel", np.uint8, np.bool_)


class Turn(NamedTuple):
    """Transpose a picture, then flip its columns and its rows."""

    transpose: bool
    columns: bool
    rows: bool


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


def upright(pixels: npt.NDArray[Pixel], orientation: int) -> npt.NDArray[Pixel]:
    """A stored picture `(H, W)` or `(H, W, C)` upright and contiguous; an unknown orientation counts as 1."""
    turn = TURNS.get(orientation, TURNS[1])
    turned = pixels.swapaxes(0, 1) if turn.transpose else pixels
    return np.ascontiguousarray(turned[:: -1 if turn.rows else 1, :: -1 if turn.columns else 1])
