"""Point grids and crops: where the model is prompted to find everything in a photo.

The rules are the reference's (segment_anything 1.0, utils/amg.py, `build_all_layer_point_grids`,
`generate_crop_boxes`).
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
    """A part of the photo.

    Attributes:
        box: x0, y0, x1, y1 in pixels; x1 and y1 are the first ones outside.
        layer: 0 is the whole photo.
    """

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def cut(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """This part of a photo (H, W, 3), contiguous."""
        x0, y0, x1, y1 = self.box
        return np.ascontiguousarray(photo[y0:y1, x0:x1])


def point_grid(points_per_side: int) -> Grid:
    """A grid of points (points_per_side ** 2, 2), x, y from 0 to 1, each in the middle of its cell, row by row."""
    centres = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def layer_grids(points_per_side: int, layers: int, downscale: int) -> tuple[Grid, ...]:
    """A point grid for each layer.

    Args:
        points_per_side: of the photo's grid.
        layers: of crops, besides the photo.
        downscale: each layer's points per side are those of the layer before, divided by it.

    Raises:
        UsageError: the grid of a layer would have no point.
    """
    sides = [int(points_per_side / downscale**layer) for layer in range(layers + 1)]
    if not sides[-1]:
        raise UsageError(
            f"a grid of {points_per_side} points per side, divided by {downscale} for each of {layers} layers, ends "
            "without a point: use fewer layers, a smaller divisor or more points"
        )
    return tuple(map(point_grid, sides))


def generate_crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> tuple[Crop, ...]:
    """The whole photo, and in layer n its 4 ** n overlapping parts.

    Args:
        size: (H, W) of the photo.
        layers: of parts, besides the photo.
        overlap_ratio: overlap of the parts of layer 1 as a share of the photo's shorter side; half of it in each
            further layer.
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / per_side))
        part_width, part_height = (ceil((overlap * (per_side - 1) + length) / per_side) for length in (width, height))
        for column, row in product(range(per_side), repeat=2):
            x0, y0 = (part_width - overlap) * column, (part_height - overlap) * row
            crops.append(Crop((x0, y0, min(x0 + part_width, width), min(y0 + part_height, height)), layer))
    return tuple(crops)
