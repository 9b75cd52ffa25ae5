"""The outlines of masks as polygons along the edges of pixels.

A corner is a point of the grid between pixels around which the mask changes in both directions. In each row of the grid
the corners are, in order, the two ends of a horizontal side, then of the next one, and likewise in each column. So
following a horizontal and a vertical side by turns gives the outlines. Where two pixels touch at a corner alone, that
corner counts twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Mask


def outlines(mask: Mask) -> tuple[list[list[float]], int]:
    """The outer outlines of a mask `(H, W)`: x, y, x, y, ... in pixels, between their edges; and how many holes it has.

    Drawn by pycocotools, they are exactly the mask with its holes filled.
    """
    polygons: list[list[float]] = []
    holes = 0
    for loop in _loops(mask):
        x, y = loop.T
        first = np.lexsort((x, y))[0]  # at the top, the leftmost: the mask or the hole is to its lower right
        if mask[y[first], x[first]]:
            polygons.append([float(value) for value in loop.ravel()])
        else:
            holes += 1
    return polygons, holes


def _loops(mask: Mask) -> list[npt.NDArray[np.int64]]:
    """All outlines, outer ones and holes, as corners (K, 2) of x, y."""
    padded = np.pad(mask, 1).astype(np.int8)
    around = (
        padded[:-1, :-1] + padded[1:, 1:] - padded[:-1, 1:] - padded[1:, :-1]
    )  # odd at a corner, +-2 where two touch
    y, x = np.nonzero(around)
    twice = np.abs(around[y, x])
    y, x = np.repeat(y, twice), np.repeat(x, twice)  # in rows
    beside = np.arange(len(x)) ^ 1  # the other end of the horizontal side
    order = np.lexsort((y, x))  # in columns
    above = np.empty(len(x), np.int64)
    above[order] = order[np.arange(len(x)) ^ 1]
    corners = np.stack([x, y], axis=1)
    left, loops = np.ones(len(x), np.bool_), []
    across, down = beside.tolist(), above.tolist()
    for start in range(len(x)):
        if not left[start]:
            continue
        loop, at = [], start
        while left[at]:
            loop += [at, across[at]]
            left[at] = left[across[at]] = False
            at = down[across[at]]
        loops.append(corners[loop])
    return loops
