"""Erosion of a mask by a square."""

from __future__ import annotations

import numpy as np

from sam_edge_runtime.arrays import Mask


def eroded(mask: Mask, width: int) -> Mask:
    """The pixels of a mask (H, W) whose square of side `2 * width + 1` lies inside the mask and the picture.

    Equal to `width` erosions by 3 x 3, but computed from a summed-area table, in the same time for any width.
    """
    side = 2 * width + 1
    sums = np.pad(mask, width).cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    table = np.pad(sums, ((1, 0), (1, 0)))
    counts = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    inside: Mask = counts == side * side
    return inside
