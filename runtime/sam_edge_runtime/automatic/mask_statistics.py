"""Areas, boxes and runs of masks at the photo's size, without the masks: from low-resolution logits alone.

A photo's pixel is a weighted mean of at most 3 x 3 low-resolution cells (masks.py), and no weight is negative. So where
all of these cells lie above a threshold the pixel is inside, where none does it is outside, and only blocks of pixels
that a threshold's line can run through are interpolated: a few in a hundred. What comes out equals what counting in
the full-size mask gives. The trade-off is bookkeeping: pixels are grouped along each axis by the first of their cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Int64
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import axis_matrix, check_low_res

from .rle import Counts, run_lengths_at

Bool = npt.NDArray[np.bool_]

REACH = 3  # cells of an axis that a pixel may depend on: two neighbours in the frame, of two neighbouring cells each
_VALUES_AT_ONCE = 1 << 19  # interpolated together: 2 MB, which a core's cache holds
_CACHED_AXES = 16


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of the photo: its pixels in G groups, each of those whose first cell is the same.

    Attributes:
        cells: how many low-resolution cells count; the rest lies in the padding.
        first: (G) first cell of each group.
        starts, sizes: (G) its first pixel, and how many it has.
        weights: (G, P, 3) of its pixels' cells, P the largest size; what exceeds a group's size is zero.
        real: (G, P) which of them are pixels.
    """

    cells: int
    first: Int64
    starts: Int64
    sizes: Int64
    weights: Float32
    real: Bool


@lru_cache(maxsize=_CACHED_AXES)
def _axis(side: int, resized: int, original: int) -> _Axis:
    matrix = axis_matrix(side, resized, original)  # (original, cells)
    first_of_pixel = (matrix != 0).argmax(axis=1)
    starts = np.flatnonzero(np.diff(first_of_pixel, prepend=-1))
    sizes = np.diff(starts, append=original)
    first = first_of_pixel[starts]
    places = np.arange(int(sizes.max()))
    real = places < sizes[:, None]
    padded = np.pad(matrix, ((0, len(places)), (0, REACH - 1)))
    weights = padded[(starts[:, None] + places)[:, :, None], first[:, None, None] + np.arange(REACH)]
    weights[~real] = 0
    return _Axis(matrix.shape[1], first, starts, sizes, weights, real)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Interpolated blocks of K masks: n of them, each (P, Q) pixels.

    Attributes:
        mask, row, column: (n) which mask, and which groups of rows and columns.
        values: (n, P, Q) logits.
        real: (n, P, Q) which of them are pixels.
    """

    mask: Int64
    row: Int64
    column: Int64
    values: Float32
    real: Bool

    def above(self, threshold: float) -> Bool:
        """Which of the values (n, P, Q) are pixels above a threshold."""
        return np.asarray((self.values > threshold) & self.real)


class Crossings:
    """Where the masks of one geometry cross a threshold.

    Args:
        frame: how the photo lies in the frame.
    """

    def __init__(self, frame: Frame) -> None:
        (height, width), (new_height, new_width) = frame.original_size, frame.resized_size
        self._frame = frame
        self._rows = _axis(frame.side, new_height, height)
        self._columns = _axis(frame.side, new_width, width)

    def stability(self, low_res: Float32, threshold: float, offset: float, least: float = 0.0) -> Float32:
        """IoU of each mask with itself under a higher and a lower threshold.

        The source is segment_anything 1.0, utils/amg.py, `calculate_stability_score`.

        Args:
            low_res: (K, S/4, S/4) float32 logits.
            threshold: the mask's own.
            offset: how far above and below it the other two are.
            least: a score below it need not be right, only below it; most of such masks are cheaply told.

        Returns:
            (K) float32, 0 where nothing lies above the lower threshold (the reference has NaN there).
        """
        high, low = threshold + offset, threshold - offset
        cells, least_of, most_of = self._hulls(low_res)
        # No more pixels than these are above `high`, no fewer above `low`, so the score is no larger than their ratio.
        at_most, at_least = self._pixels(most_of > high), self._pixels(least_of > low)
        scores = _ratio(at_most, at_least, empty=1.0)  # nothing surely above `low` says nothing
        open_ones = np.flatnonzero(scores >= least)
        cells, least_of, most_of = cells[open_ones], least_of[open_ones], most_of[open_ones]
        surely = least_of > high
        counts = np.repeat(self._pixels(surely)[:, None], 2, axis=1)
        for blocks in self._interpolated(cells, ~surely & (most_of > low)):
            for place, bound in enumerate((high, low)):
                inside = np.count_nonzero(blocks.above(bound), axis=(1, 2))
                counts[:, place] += np.bincount(blocks.mask, inside, len(counts)).astype(np.int64)
        scores[open_ones] = _ratio(counts[:, 0], counts[:, 1], empty=0.0)
        return scores

    def boxes(self, low_res: Float32, threshold: float) -> Int64:
        """The boxes around masks.

        Args:
            low_res: (K, S/4, S/4) float32 logits.
            threshold: logits above it are inside.

        Returns:
            (K, 4) x0, y0, x1, y1 of the outermost pixels, which are inside; zeros for an empty mask.
        """
        cells, least_of, most_of = self._hulls(low_res)
        surely = np.asarray(least_of > threshold)
        height, width = self._frame.original_size
        top, bottom = _extent(np.any(surely, axis=2), self._rows, height)
        left, right = _extent(np.any(surely, axis=1), self._columns, width)
        for blocks in self._interpolated(cells, ~surely & (most_of > threshold)):
            inside = blocks.above(threshold)
            _stretch(top, bottom, np.any(inside, axis=2), blocks.mask, blocks.row, self._rows)
            _stretch(left, right, np.any(inside, axis=1), blocks.mask, blocks.column, self._columns)
        boxes = np.stack([left, top, right, bottom], axis=1)
        boxes[bottom < 0] = 0
        return boxes

    def run_lengths(
        self, low_res: Float32, threshold: float, at: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
    ) -> Counts:
        """The run lengths of one mask, as `rle.run_lengths` gives them of the full-size mask.

        Args:
            low_res: (S/4, S/4) float32 logits.
            threshold: logits above it are inside.
            at: x, y of this photo in a larger one that it was cut from.
            size: (H, W) of the larger one; None: there is none.
        """
        size = self._frame.original_size if size is None else size
        cells, least_of, most_of = self._hulls(low_res[None])
        surely, maybe = least_of[0] > threshold, most_of > threshold
        if not maybe.any():
            return np.array([size[0] * size[1]], np.int64)
        rows, columns = np.flatnonzero(maybe[0].any(axis=1)), np.flatnonzero(maybe[0].any(axis=0))
        rows, columns = np.arange(rows[0], rows[-1] + 1), np.arange(columns[0], columns[-1] + 1)
        y, x = int(self._rows.starts[rows[0]]), int(self._columns.starts[columns[0]])
        heights, widths = self._rows.sizes[rows], self._columns.sizes[columns]
        # Columns first, as runs go; one more row and column take what exceeds a block's size.
        mask = np.zeros((int(widths.sum()) + 1, int(heights.sum()) + 1), np.bool_)
        mask[:-1, :-1] = surely[np.ix_(rows, columns)].T.repeat(widths, axis=0).repeat(heights, axis=1)
        for blocks in self._interpolated(cells, ~surely & maybe):
            down = _places(self._rows, blocks.row, y, mask.shape[1] - 1)
            across = _places(self._columns, blocks.column, x, mask.shape[0] - 1)
            mask[across[:, :, None], down[:, None, :]] = (blocks.values > threshold).transpose(0, 2, 1)
        return run_lengths_at(mask[:-1, :-1], (x + at[0], y + at[1]), size)

    def _hulls(self, low_res: Float32) -> tuple[Float32, Float32, Float32]:
        """Cells with a rim of two more, and least and greatest cell of each block, (K, Gr, Gc)."""
        check_low_res(low_res, self._frame)
        used = low_res[:, : self._rows.cells, : self._columns.cells]
        cells = np.pad(used, ((0, 0), (0, REACH - 1), (0, REACH - 1)), mode="edge")
        return cells, self._over(cells, np.minimum), self._over(cells, np.maximum)

    def _over(self, cells: Float32, pick: np.ufunc) -> Float32:
        down = pick(pick(cells[:, :-2], cells[:, 1:-1]), cells[:, 2:])[:, self._rows.first]
        found: Float32 = pick(pick(down[..., :-2], down[..., 1:-1]), down[..., 2:])[..., self._columns.first]
        return found

    def _pixels(self, blocks: Bool) -> Int64:
        """Pixels (K) in those of the blocks (K, Gr, Gc) that are true."""
        found: Int64 = (blocks @ self._columns.sizes) @ self._rows.sizes
        return found

    def _interpolated(self, cells: Float32, wanted: Bool) -> Iterator[_Blocks]:
        """The wanted blocks (K, Gr, Gc), so many at a time as a cache holds."""
        windows = np.lib.stride_tricks.sliding_window_view(cells, (REACH, REACH), axis=(1, 2))
        masks, rows, columns = np.nonzero(wanted)
        at_once = max(1, _VALUES_AT_ONCE // (self._rows.real.shape[1] * self._columns.real.shape[1]))
        for start in range(0, len(masks), at_once):
            part = slice(start, start + at_once)
            mask, row, column = masks[part], rows[part], columns[part]
            window = windows[mask, self._rows.first[row], self._columns.first[column]]  # (n, 3, 3)
            values = np.matmul(self._rows.weights[row] @ window, self._columns.weights[column].transpose(0, 2, 1))
            real = self._rows.real[row][:, :, None] & self._columns.real[column][:, None, :]
            yield _Blocks(mask, row, column, values, real)


def _ratio(part: Int64, whole: Int64, empty: float) -> Float32:
    """One count by the other in float32, `empty` where there is nothing to divide by."""
    ratio = np.full(len(whole), empty, np.float32)
    np.divide(part, whole, out=ratio, where=whole > 0, dtype=np.float32, casting="unsafe")
    return ratio


def _extent(groups: Bool, axis: _Axis, beyond: int) -> tuple[Int64, Int64]:
    """First and last pixel (K) of the groups (K, G) that are true; `beyond` and -1 where none is."""
    found = groups.any(axis=1)
    first = np.where(found, axis.starts[groups.argmax(axis=1)], beyond)
    last_group = groups.shape[1] - 1 - groups[:, ::-1].argmax(axis=1)
    last = np.where(found, axis.starts[last_group] + axis.sizes[last_group] - 1, -1)
    return first, last


def _stretch(first: Int64, last: Int64, inside: Bool, mask: Int64, group: Int64, axis: _Axis) -> None:
    """Move first and last pixels (K) out to those of blocks (n, P) of one axis, each of a mask and a group."""
    found = inside.any(axis=1)
    hit, start, mask = inside[found], axis.starts[group[found]], mask[found]
    np.minimum.at(first, mask, start + hit.argmax(axis=1))
    np.maximum.at(last, mask, start + hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1))


def _places(axis: _Axis, group: Int64, origin: int, elsewhere: int) -> Int64:
    """Where the pixels (n, P) of some groups lie in a picture that begins at `origin`."""
    places = axis.starts[group][:, None] - origin + np.arange(axis.real.shape[1])
    return np.where(axis.real[group], places, elsewhere)
