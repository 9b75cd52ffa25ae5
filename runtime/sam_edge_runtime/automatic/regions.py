"""Connected regions of a mask, computed on its run lengths: small holes are filled, small islands removed.

The result is that of segment_anything 1.0 (utils/amg.py, `remove_small_regions`), which needs OpenCV. Regions are
8-connected: pixels that touch at a corner belong together. Runs are split at the ends of columns; touching runs of
neighbouring columns take the smaller label of the two until nothing changes. The time grows with the number of runs,
not of pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Int64

from .rle import Counts, lengths_between

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of a mask, ascending and not empty.

    Attributes:
        starts: (R) first pixel of each run; pixels are numbered column by column.
        ends: (R) the pixel after its last one.
    """

    starts: Int64
    ends: Int64

    @classmethod
    def from_lengths(cls, lengths: Counts) -> _Runs:
        """The runs of ones in run lengths."""
        ends = np.cumsum(lengths)
        return cls((ends - lengths)[1::2], ends[1::2])

    def complement(self, pixels: int) -> _Runs:
        """The runs of zeros, of a mask with so many pixels."""
        starts, ends = np.append(0, self.ends), np.append(self.starts, pixels)
        real = ends > starts
        return _Runs(starts[real], ends[real])

    def lengths(self, pixels: int) -> Counts:
        """The run lengths of a mask with so many pixels, zeros first."""
        return lengths_between(np.stack([self.starts, self.ends], axis=1).ravel(), pixels)

    def split(self, height: int) -> _Runs:
        """The same runs, split where a column of `height` pixels ends."""
        first, last = self.starts // height, (self.ends - 1) // height
        parts = last - first + 1
        column = np.repeat(first, parts) + np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        starts = np.maximum(np.repeat(self.starts, parts), column * height)
        return _Runs(starts, np.minimum(np.repeat(self.ends, parts), (column + 1) * height))

    def select(self, kept: Bool) -> _Runs:
        """The runs where `kept` (R) is true; adjacent ones are joined."""
        starts, ends = self.starts[kept], self.ends[kept]
        apart = np.flatnonzero(starts[1:] != ends[:-1])
        return _Runs(np.append(starts[:1], starts[1 + apart]), np.append(ends[apart], ends[-1:]))


def bounding_box(lengths: Counts, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask, given by its run lengths and height; x1 and y1 are the last ones inside.

    Zeros for an empty mask.
    """
    runs = _Runs.from_lengths(lengths).split(height)
    if not len(runs.starts):
        return 0, 0, 0, 0
    column = runs.starts // height
    top, bottom = runs.starts - column * height, runs.ends - 1 - column * height
    return int(column[0]), int(top.min()), int(column[-1]), int(bottom.max())


def xywh(box: Iterable[int]) -> list[float]:
    """A box x0, y0, x1, y1 as x, y, x1 - x0, y1 - y0: the form of the reference's records."""
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def count_pixels_within(masks: Sequence[Counts], area: Bool) -> list[int]:
    """For each mask, given by its run lengths, the number of its pixels where `area` (H, W) is true."""
    before = np.concatenate([[0], np.cumsum(area.T.ravel())])  # true pixels before each pixel, column by column
    return [int((before[runs.ends] - before[runs.starts]).sum()) for runs in map(_Runs.from_lengths, masks)]


def remove_small_regions(lengths: Counts, height: int, least: int) -> tuple[Counts, bool]:
    """Fill small holes of a mask, then remove small islands.

    Of a mask with small islands alone, the largest stays.

    Args:
        lengths: (R) run lengths, zeros first.
        height: of the mask, in pixels.
        least: holes and islands with fewer pixels are small.

    Returns:
        The new run lengths, and whether there was a small hole or island.
    """
    pixels = int(lengths.sum())
    inside = _Runs.from_lengths(lengths)
    outside = inside.complement(pixels).split(height)
    holes = _areas(outside, height) < least
    if holes.any():
        inside = outside.select(~holes).complement(pixels)
    inside = inside.split(height)
    areas = _areas(inside, height)
    islands = areas < least
    kept = ~islands
    if len(areas) and not kept.any():
        labels = _labels(inside, height)
        kept = labels == labels[areas.argmax()]
    return inside.select(kept).lengths(pixels), bool(holes.any() or islands.any())


def _areas(runs: _Runs, height: int) -> Int64:
    """For each run (R) the number of pixels of its region."""
    labels = _labels(runs, height)
    return np.bincount(labels, runs.ends - runs.starts, len(labels)).astype(np.int64)[labels]


def _labels(runs: _Runs, height: int) -> Int64:
    """For each run (R) the label of its region: the index of the region's first run.

    Args:
        runs: split at the ends of columns.
        height: of the mask, in pixels.
    """
    column = runs.starts // height
    # Two empty pixels between columns keep runs of one column from touching those of the next but one. Then the runs of
    # the next column that touch a run, corners included, have consecutive indices: `lowest` to before `beyond`.
    starts, ends = runs.starts + 2 * column, runs.ends + 2 * column
    shift = height + 2
    lowest = np.searchsorted(ends, starts + shift, side="left")
    beyond = np.searchsorted(starts, ends + shift, side="right")
    touching = np.maximum(beyond - lowest, 0)
    one = np.repeat(np.arange(len(starts)), touching)
    other = (
        np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(lowest, touching)
    )
    labels = np.arange(len(starts))
    while (labels[one] != labels[other]).any():
        a, b = labels[one], labels[other]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while (labels != labels[labels]).any():
            labels = labels[labels]
    return labels
