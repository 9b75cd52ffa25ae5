"""Areas, centres and convex hulls of a photo's masks, from their run lengths alone.

The masks of a photo are laid side by side: M masks of H x W pixels are one picture of M * W columns, so that each step
is one operation on arrays for all of them. No mask is decoded to pixels.

The convex hull is that of the pixels' squares, not of their centres. So a rectangle is its own hull, a single pixel has
a hull of area 1, and no hull is smaller than its mask. Its corners lie at the ends of columns: on each vertical line
between two columns only the highest and the lowest corner can be on it. Of these two chains, points that do not stand
out from the line between their neighbours are removed until all do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64, Int64
from sam_edge_runtime.automatic.rle import Counts, Rle, decompress_all


@dataclass(frozen=True, eq=False)
class MaskShapes:
    """The shapes of M masks.

    Attributes:
        areas: (M) pixels.
        centres: (M, 2) x, y of the mean of the pixels' centres, in pixels; zeros for an empty mask.
        hull_areas: (M) area of the convex hull of the pixels' squares, in pixels.
    """

    areas: Int64
    centres: Float64
    hull_areas: Float64


@dataclass(frozen=True, eq=False)
class _ColumnRuns:
    """The runs of all masks, split at the ends of columns, in order.

    Attributes:
        masks: (R) index of the mask.
        x: (R) column in its mask.
        tops, bottoms: (R) first row, and the row after the last one.
    """

    masks: Int64
    x: Int64
    tops: Int64
    bottoms: Int64


def mask_shapes(rles: Sequence[Rle], size: tuple[int, int], lengths: tuple[Counts, Counts] | None = None) -> MaskShapes:
    """The shapes of masks.

    Args:
        rles: M sound masks in compressed form, each of the photo's size.
        size: (H, W) of the photo in pixels.
        lengths: what `decompress_all` gives for the masks, where it is known already.
    """
    count = len(rles)
    runs = _column_runs(decompress_all([rle["counts"] for rle in rles]) if lengths is None else lengths, size)
    pixels = runs.bottoms - runs.tops
    areas = np.bincount(runs.masks, pixels, count)
    sums = [np.bincount(runs.masks, pixels * along, count) for along in (runs.x + 0.5, (runs.tops + runs.bottoms) / 2)]
    centres = np.stack(sums, axis=1) / np.maximum(areas, 1)[:, None]
    return MaskShapes(areas.astype(np.int64), centres, _hull_areas(runs, count))


def _column_runs(decompressed: tuple[Counts, Counts], size: tuple[int, int]) -> _ColumnRuns:
    (lengths, numbers), (height, width) = decompressed, size
    ends = np.cumsum(lengths)
    index = np.arange(len(lengths)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    inside = np.flatnonzero((index & 1) * lengths)
    ends = ends[inside]
    starts = ends - lengths[inside]
    first, last = starts // height, (ends - 1) // height
    if np.array_equal(first, last):  # no run goes on in the next column
        columns, tops, bottoms = first, starts - first * height, ends - first * height
    else:
        parts = last - first + 1
        columns = np.repeat(first - np.cumsum(parts) + parts, parts) + np.arange(parts.sum())
        tops = np.maximum(np.repeat(starts, parts) - columns * height, 0)
        bottoms = np.minimum(np.repeat(ends, parts) - columns * height, height)
    masks = columns // width
    return _ColumnRuns(masks, columns - masks * width, tops, bottoms)


def _hull_areas(runs: _ColumnRuns, count: int) -> Float64:
    """The areas (M) of the convex hulls of `count` masks."""
    if not len(runs.x):
        return np.zeros(count)
    is_next = (np.diff(runs.x) != 0) | (np.diff(runs.masks) != 0)
    first, last = np.append(True, is_next), np.append(is_next, True)  # runs of a column
    masks, x = runs.masks[first], runs.x[first]
    # Upper and lower chain of each mask, on the lines between columns. Lower ones are turned over, so that both are
    # chains of smallest y.
    upper, lower = _on_lines(masks, x, runs.tops[first]), _on_lines(masks, x, -runs.bottoms[last])
    chain = np.concatenate([upper[0], lower[0] + count])
    x, y = (np.concatenate([upper[k], lower[k]]) for k in (1, 2))
    while True:
        kept = _standing_out(chain, x, y)
        if kept.all():
            break
        chain, x, y = chain[kept], x[kept], y[kept]
    joined = chain[1:] == chain[:-1]
    below = (np.diff(x) * (y[1:] + y[:-1]) / 2)[joined]
    sums = np.asarray(np.bincount(chain[1:][joined], below, 2 * count), np.float64)
    return -sums[:count] - sums[count:]


def _on_lines(masks: Int64, x: Int64, y: Int64) -> tuple[Int64, Int64, Int64]:
    """Mask, x and smallest y on each line at the left or right of a column.

    Args:
        masks: (C) mask of each column, in order.
        x: (C) its number in the mask.
        y: (C) smallest y of the column.
    """
    beside = (masks[1:] == masks[:-1]) & (x[1:] == x[:-1] + 1)
    left = y.copy()
    left[1:][beside] = np.minimum(y[1:], y[:-1])[beside]
    lines = 1 + np.append(~beside, True)  # a column with nothing at its right has a right line of its own
    places = np.cumsum(lines) - lines
    own = places[lines == 2] + 1
    mask, at, smallest = (np.repeat(each, lines) for each in (masks, x, left))
    at[own] += 1
    smallest[own] = y[lines == 2]
    return mask, at, smallest


def _standing_out(chain: Int64, x: Int64, y: Int64) -> npt.NDArray[np.bool_]:
    """Which points (P) lie strictly above the line between their neighbours, or end a chain; y points down."""
    kept = np.ones(len(x), np.bool_)
    inner = (chain[2:] == chain[1:-1]) & (chain[:-2] == chain[1:-1])
    above = (x[1:-1] - x[:-2]) * (y[2:] - y[:-2]) > (x[2:] - x[:-2]) * (y[1:-1] - y[:-2])
    kept[1:-1] = above | ~inner
    return kept
