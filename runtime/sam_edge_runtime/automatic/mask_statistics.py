"""Stability, boxes and run lengths of masks at the photo's size, computed from low-resolution logits.

A pixel of the photo is a weighted mean of at most 3 x 3 low-resolution cells (photo/masks.py), and no weight is
negative. Where all of these cells lie above a threshold, the pixel is inside the mask; where none does, it is outside.
Only the remaining blocks of pixels, a few in a hundred, are interpolated. The results equal those of the full-size
mask, without computing it. The price is bookkeeping: pixels are grouped along each axis by the first of their cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Float64, Int64
from sam_edge_runtime.photo.frame import Axis, Frame
from sam_edge_runtime.photo.masks import axis_matrix, check_low_res

from .rle import Counts, run_lengths_of_part

Bool = npt.NDArray[np.bool_]

REACH = 3  # cells of an axis that a pixel depends on: two neighbours in the frame, each of two neighbouring cells
_INTERPOLATED_AT_ONCE = 1 << 19  # values: 2 MB, which fits a core's cache
_CACHED_AXES = 16


def stability_score(logits: Float32, threshold: float, offset: float) -> Float64:
    """IoU of each mask with itself at a higher and at a lower threshold, counted in the pixels of `logits`.

    The source is segment_anything 1.0, utils/amg.py, `calculate_stability_score`.

    Args:
        logits: (K, H, W).
        threshold: the mask's own; logits above it are inside.
        offset: added to and subtracted from the threshold, in logits.

    Returns:
        (K) from 0 to 1; 0 where no logit exceeds the lower threshold (the reference has NaN there).
    """
    higher, lower = ((logits > threshold + each).sum(axis=(1, 2)) for each in (offset, -offset))
    return np.asarray(higher / np.maximum(lower, 1), np.float64)


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of the photo: its pixels in G groups, each of the pixels with the same first cell.

    Attributes:
        cells: low-resolution cells in use; the rest lies in the padding.
        first: (G) first cell of each group.
        starts, sizes: (G) first pixel and number of pixels of each group.
        weights: (G, P, 3) of the cells of each pixel, P the largest size; zero beyond a group's size.
        real: (G, P) whether there is such a pixel.
    """

    cells: int
    first: Int64
    starts: Int64
    sizes: Int64
    weights: Float32
    real: Bool


@lru_cache(maxsize=_CACHED_AXES)
def _grouped(axis: Axis) -> _Axis:
    matrix = axis_matrix(axis)  # (original, cells)
    first_of_pixel = (matrix != 0).argmax(axis=1)
    starts = np.flatnonzero(np.diff(first_of_pixel, prepend=-1))
    sizes = np.diff(starts, append=axis.original)
    first = first_of_pixel[starts]
    places = np.arange(int(sizes.max()))
    real = places < sizes[:, None]
    padded = np.pad(matrix, ((0, len(places)), (0, REACH - 1)))
    weights = padded[(starts[:, None] + places)[:, :, None], first[:, None, None] + np.arange(REACH)]
    weights[~real] = 0
    return _Axis(matrix.shape[1], first, starts, sizes, weights, real)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """n interpolated blocks of K masks, each (P, Q) pixels.

    Attributes:
        mask, row, column: (n) mask, group of rows and group of columns of each block.
        values: (n, P, Q) logits.
        real: (n, P, Q) whether there is such a pixel.
    """

    mask: Int64
    row: Int64
    column: Int64
    values: Float32
    real: Bool

    def above(self, threshold: float) -> Bool:
        """Whether each of the values (n, P, Q) is a pixel above a threshold."""
        return np.asarray((self.values > threshold) & self.real)


class MaskStatistics:
    """Statistics of masks of one photo geometry.

    Args:
        frame: how the photo lies in the frame.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        # Bicubic weights may be negative; masks are interpolated bilinearly here in every family.
        self._rows, self._columns = (_grouped(axis._replace(bicubic=False)) for axis in frame.axes)

    def stability(self, low_res: Float32, threshold: float, offset: float, least: float = 0.0) -> Float32:
        """`stability_score` of the masks at the photo's size.

        Args:
            low_res: (K, H/4, W/4) float32 logits.
            threshold: as in `stability_score`.
            offset: likewise.
            least: a score below it may be an upper bound, itself below `least`: cheaper, and enough for a filter.

        Returns:
            (K) float32.

        Raises:
            UsageError: `low_res` is of another frame size.
        """
        high, low = threshold + offset, threshold - offset
        cells, smallest, largest = self._cell_bounds(low_res)
        # At most this many pixels lie above `high`, at least this many above `low`: their ratio bounds the score.
        at_most, at_least = self._count_pixels(largest > high), self._count_pixels(smallest > low)
        scores = _ratio(at_most, at_least, empty=1.0)
        undecided = np.flatnonzero(scores >= least)
        cells, smallest, largest = cells[undecided], smallest[undecided], largest[undecided]
        inside_both = smallest > high
        counts = np.repeat(self._count_pixels(inside_both)[:, None], 2, axis=1)  # above `high`, above `low`
        for blocks in self._interpolate(cells, ~inside_both & (largest > low)):
            for place, bound in enumerate((high, low)):
                above = np.count_nonzero(blocks.above(bound), axis=(1, 2))
                counts[:, place] += np.bincount(blocks.mask, above, len(counts)).astype(np.int64)
        scores[undecided] = _ratio(counts[:, 0], counts[:, 1], empty=0.0)
        return scores

    def boxes(self, low_res: Float32, threshold: float) -> Int64:
        """The bounding boxes of the masks at the photo's size.

        Args:
            low_res: (K, H/4, W/4) float32 logits.
            threshold: logits above it are inside.

        Returns:
            (K, 4) x0, y0, x1, y1 in pixels; x1 and y1 are the last ones inside. Zeros for an empty mask.

        Raises:
            UsageError: `low_res` is of another frame size.
        """
        cells, smallest, largest = self._cell_bounds(low_res)
        inside = np.asarray(smallest > threshold)
        height, width = self._frame.original_size
        top, bottom = _extent(np.any(inside, axis=2), self._rows, height)
        left, right = _extent(np.any(inside, axis=1), self._columns, width)
        for blocks in self._interpolate(cells, ~inside & (largest > threshold)):
            above = blocks.above(threshold)
            _extend(top, bottom, np.any(above, axis=2), blocks.mask, blocks.row, self._rows)
            _extend(left, right, np.any(above, axis=1), blocks.mask, blocks.column, self._columns)
        boxes = np.stack([left, top, right, bottom], axis=1)
        boxes[bottom < 0] = 0
        return boxes

    def run_lengths(
        self, low_res: Float32, threshold: float, at: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
    ) -> Counts:
        """The run lengths of one mask at the photo's size, as `rle.run_lengths` gives them.

        Args:
            low_res: (H/4, W/4) float32 logits.
            threshold: logits above it are inside.
            at: x, y of the photo's first pixel in the larger photo that it was cropped from.
            size: (H, W) of that larger photo; None where there is none.

        Raises:
            UsageError: `low_res` is of another frame size.
        """
        size = self._frame.original_size if size is None else size
        cells, smallest, largest = self._cell_bounds(low_res[None])
        inside, not_outside = smallest[0] > threshold, largest > threshold
        if not not_outside.any():
            return np.array([size[0] * size[1]], np.int64)
        rows, columns = np.flatnonzero(not_outside[0].any(axis=1)), np.flatnonzero(not_outside[0].any(axis=0))
        rows, columns = np.arange(rows[0], rows[-1] + 1), np.arange(columns[0], columns[-1] + 1)
        y, x = int(self._rows.starts[rows[0]]), int(self._columns.starts[columns[0]])
        heights, widths = self._rows.sizes[rows], self._columns.sizes[columns]
        # Columns first, the order of runs; a spare row and column take what lies beyond a block's size.
        mask = np.zeros((int(widths.sum()) + 1, int(heights.sum()) + 1), np.bool_)
        mask[:-1, :-1] = inside[np.ix_(rows, columns)].T.repeat(widths, axis=0).repeat(heights, axis=1)
        for blocks in self._interpolate(cells, ~inside & not_outside):
            down = _pixels_of(self._rows, blocks.row, y, mask.shape[1] - 1)
            across = _pixels_of(self._columns, blocks.column, x, mask.shape[0] - 1)
            mask[across[:, :, None], down[:, None, :]] = (blocks.values > threshold).transpose(0, 2, 1)
        return run_lengths_of_part(mask[:-1, :-1], (x + at[0], y + at[1]), size)

    def _cell_bounds(self, low_res: Float32) -> tuple[Float32, Float32, Float32]:
        """The cells, padded by two, and the smallest and the largest cell of each block, (K, Gr, Gc)."""
        check_low_res(low_res, self._frame)
        used = low_res[:, : self._rows.cells, : self._columns.cells]
        cells = np.pad(used, ((0, 0), (0, REACH - 1), (0, REACH - 1)), mode="edge")
        return cells, self._over_blocks(cells, np.minimum), self._over_blocks(cells, np.maximum)

    def _over_blocks(self, cells: Float32, choose: np.ufunc) -> Float32:
        down = choose(choose(cells[:, :-2], cells[:, 1:-1]), cells[:, 2:])[:, self._rows.first]
        across: Float32 = choose(choose(down[..., :-2], down[..., 1:-1]), down[..., 2:])[..., self._columns.first]
        return across

    def _count_pixels(self, blocks: Bool) -> Int64:
        """The number of pixels (K) in the blocks (K, Gr, Gc) that are true."""
        counts: Int64 = (blocks @ self._columns.sizes) @ self._rows.sizes
        return counts

    def _interpolate(self, cells: Float32, wanted: Bool) -> Iterator[_Blocks]:
        """The blocks (K, Gr, Gc) that are true, in portions that fit the cache."""
        windows = np.lib.stride_tricks.sliding_window_view(cells, (REACH, REACH), axis=(1, 2))
        masks, rows, columns = np.nonzero(wanted)
        at_once = max(1, _INTERPOLATED_AT_ONCE // (self._rows.real.shape[1] * self._columns.real.shape[1]))
        for start in range(0, len(masks), at_once):
            part = slice(start, start + at_once)
            mask, row, column = masks[part], rows[part], columns[part]
            window = windows[mask, self._rows.first[row], self._columns.first[column]]  # (n, 3, 3)
            values = np.matmul(self._rows.weights[row] @ window, self._columns.weights[column].transpose(0, 2, 1))
            real = self._rows.real[row][:, :, None] & self._columns.real[column][:, None, :]
            yield _Blocks(mask, row, column, values, real)


def _ratio(part: Int64, whole: Int64, empty: float) -> Float32:
    """One count divided by the other, in float32; `empty` where the divisor is 0."""
    ratio = np.full(len(whole), empty, np.float32)
    np.divide(part, whole, out=ratio, where=whole > 0, dtype=np.float32, casting="unsafe")
    return ratio


def _extent(groups: Bool, axis: _Axis, beyond: int) -> tuple[Int64, Int64]:
    """First and last pixel (K) of the groups (K, G) that are true; `beyond` and -1 where none is."""
    any_true = groups.any(axis=1)
    first = np.where(any_true, axis.starts[groups.argmax(axis=1)], beyond)
    last_group = groups.shape[1] - 1 - groups[:, ::-1].argmax(axis=1)
    last = np.where(any_true, axis.starts[last_group] + axis.sizes[last_group] - 1, -1)
    return first, last


def _extend(first: Int64, last: Int64, inside: Bool, mask: Int64, group: Int64, axis: _Axis) -> None:
    """Extend first and last pixels (K) to those inside blocks (n, P) of one axis, each of a mask and a group."""
    any_inside = inside.any(axis=1)
    pixels, start, mask = inside[any_inside], axis.starts[group[any_inside]], mask[any_inside]
    np.minimum.at(first, mask, start + pixels.argmax(axis=1))
    np.maximum.at(last, mask, start + pixels.shape[1] - 1 - pixels[:, ::-1].argmax(axis=1))


def _pixels_of(axis: _Axis, group: Int64, origin: int, spare: int) -> Int64:
    """Places of the pixels (n, P) of some groups in a picture that starts at `origin`; `spare` where there is none."""
    places = axis.starts[group][:, None] - origin + np.arange(axis.real.shape[1])
    return np.where(axis.real[group], places, spare)
