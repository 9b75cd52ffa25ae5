"""Connected regions of a mask, found on its runs: small holes filled, small islands taken away.

What segment_anything 1.0 does with OpenCV (utils/amg.py, `remove_small_regions`): pixels belong together when they
touch, corners included. Runs are cut at the ends of columns, and those of neighbouring columns that touch get the
smaller one's number until nothing changes. The work grows with the number of runs, not of pixels.
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
    """First pixels of a mask's runs and those behind the last, counted column by column, ascending; none is empty."""

    starts: Int64
    ends: Int64

    @classmethod
    def of(cls, lengths: Counts) -> _Runs:
        """The runs of ones."""
        ends = np.cumsum(lengths)
        return cls((ends - lengths)[1::2], ends[1::2])

    def outside(self, pixels: int) -> _Runs:
        """The runs of zeros between them."""
        starts, ends = np.append(0, self.ends), np.append(self.starts, pixels)
        real = ends > starts
        return _Runs(starts[real], ends[real])

    def lengths(self, pixels: int) -> Counts:
        """The run lengths, zeros first."""
        return lengths_between(np.stack([self.starts, self.ends], axis=1).ravel(), pixels)

    def cut(self, height: int) -> _Runs:
        """The same, but none goes on in another column."""
        first, last = self.starts // height, (self.ends - 1) // height
        parts = last - first + 1
        column = np.repeat(first, parts) + np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        starts = np.maximum(np.repeat(self.starts, parts), column * height)
        return _Runs(starts, np.minimum(np.repeat(self.ends, parts), (column + 1) * height))

    def only(self, wanted: Bool) -> _Runs:
        """Some of them, joined where one begins at the end of another."""
        starts, ends = self.starts[wanted], self.ends[wanted]
        apart = np.flatnonzero(starts[1:] != ends[:-1])
        return _Runs(np.append(starts[:1], starts[1 + apart]), np.append(ends[apart], ends[-1:]))


def box_of(lengths: Counts, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask's outermost pixels, which are inside; zeros for an empty mask."""
    runs = _Runs.of(lengths).cut(height)
    if not len(runs.starts):
        return 0, 0, 0, 0
    column = runs.starts // height
    top, bottom = runs.starts - column * height, runs.ends - 1 - column * height
    return int(column[0]), int(top.min()), int(column[-1]), int(bottom.max())


def xywh(box: Iterable[int]) -> list[float]:
    """A box x0, y0, x1, y1 as records have it: x, y, width and height, from first to last pixel."""
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def pixels_within(masks: Sequence[Counts], area: Bool) -> list[int]:
    """How many pixels of each mask, given by its run lengths, lie where `area` (H, W) is true."""
    before = np.concatenate([[0], np.cumsum(area.T.ravel())])  # true pixels before each, column by column
    return [int((before[runs.ends] - before[runs.starts]).sum()) for runs in map(_Runs.of, masks)]


def without_small_regions(lengths: Counts, height: int, least: int) -> tuple[Counts, bool]:
    """A mask's run lengths, small holes filled and small islands taken away; and whether there were any.

    Of a mask that has small islands only, the largest stays.

    Args:
        lengths: (R) run lengths, zeros first.
        height: of the mask.
        least: pixels of the smallest region that is left alone.
    """
    pixels = int(lengths.sum())
    inside = _Runs.of(lengths)
    outside = inside.outside(pixels).cut(height)
    holes = _areas(outside, height) < least
    if holes.any():
        inside = outside.only(~holes).outside(pixels)
    inside = inside.cut(height)
    areas = _areas(inside, height)
    islands = areas < least
    kept = ~islands
    if len(areas) and not kept.any():
        labels = _labels(inside, height)
        kept = labels == labels[areas.argmax()]
    return inside.only(kept).lengths(pixels), bool(holes.any() or islands.any())


def _areas(runs: _Runs, height: int) -> Int64:
    """Pixels of the region that each run belongs to."""
    labels = _labels(runs, height)
    return np.bincount(labels, runs.ends - runs.starts, len(labels)).astype(np.int64)[labels]


def _labels(runs: _Runs, height: int) -> Int64:
    """The number of the first run of the region that each run belongs to; runs are cut at the ends of columns."""
    column = runs.starts // height
    # With a row of air between columns, a run touches those of the next column whose places these are in a list.
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
