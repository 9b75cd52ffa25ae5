"""Erosion of a mask by a square."""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Mask


def eroded(mask: Mask, width: int) -> Mask:
    """Pixels whose whole square of `2 * width + 1` is inside: `width` erosions by 3 x 3, through one summed table."""
    square = 2 * width + 1
    padded = np.pad(mask, width)
    sums_to = padded.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    table = np.pad(sums_to, ((1, 0), (1, 0)))
    sums = table[square:, square:] - table[:-square, square:] - table[square:, :-square] + table[:-square, :-square]
    inside: Mask = sums == square * square
    return inside
