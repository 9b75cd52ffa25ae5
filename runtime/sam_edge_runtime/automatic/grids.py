"""Where a photo is clicked to find everything in it: grids of points, and crops that have a grid each.

Rules of the reference (segment_anything 1.0, utils/amg.py, `build_all_layer_point_grids`, `generate_crop_boxes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import UsageError

Grid = npt.NDArray[np.float64]  # (N, 2) x, y from 0 to 1


@dataclass(frozen=True)
class Crop:
    """A part of the photo: x0, y0, x1, y1, the last ones outside, and the layer that it belongs to, 0 the photo."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def of(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """This part of a photo `(H, W, 3)`."""
        x0, y0, x1, y1 = self.box
        return np.ascontiguousarray(photo[y0:y1, x0:x1])


def point_grid(points_a_side: int) -> Grid:
    """Points `(points_a_side ** 2, 2)` in the middles of equal squares, row by row."""
    places = (np.arange(points_a_side) + 0.5) / points_a_side
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)


def layer_grids(points_a_side: int, layers: int, downscale: int) -> tuple[Grid, ...]:
    """A grid for the photo and for each further layer, whose points a side are fewer by `downscale` each time.

    Raises:
        UsageError: the grid of a layer would have no point.
    """
    sides = [int(points_a_side / downscale**layer) for layer in range(layers + 1)]
    if not sides[-1]:
        raise UsageError(
            f"a grid of {points_a_side} points a side, divided by {downscale} for each of {layers} layers, ends "
            "without a point: use fewer layers, a smaller divisor or more points"
        )
    return tuple(map(point_grid, sides))


def crops_of(size: tuple[int, int], layers: int, overlap_ratio: float) -> tuple[Crop, ...]:
    """The photo itself, and 4, 16, .. overlapping parts of it.

    Args:
        size: (H, W) of the photo.
        layers: how many, beside the photo.
        overlap_ratio: how far the parts of the first layer overlap, as a share of the photo's shorter side; with each
            layer half as far.
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        a_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / a_side))
        part_width, part_height = (ceil((overlap * (a_side - 1) + length) / a_side) for length in (width, height))
        for column, row in product(range(a_side), repeat=2):
            x0, y0 = (part_width - overlap) * column, (part_height - overlap) * row
            crops.append(Crop((x0, y0, min(x0 + part_width, width), min(y0 + part_height, height)), layer))
    return tuple(crops)
