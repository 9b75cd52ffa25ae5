"""Masks of the photo's size, computed only along their outline.

A pixel's logit is an average of a few neighbouring low-resolution logits, weighted with numbers that are not negative
and sum to one. So in a tile of pixels whose low-resolution neighbours all lie on one side of the threshold there is
nothing to compute, and of a mask with an ordinary outline that is nine tiles of ten. The others get the two products of
`masks.upscale`, cut to the tile. Where an outline runs through most tiles, as in a mask of noise, that would take
longer than the products as a whole, and those are taken instead.

A rounding error could tip a pixel in a tile that was taken for one-sided only if all of its neighbours are closer to
the threshold than `MARGIN` of the largest logit; such tiles are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

TILE = 32  # pixels; smaller ones have less to compute and more to look after
MARGIN = 1e-5
DENSE = 0.35  # share of tiles to be computed from which on one product of everything is faster


@dataclass(frozen=True)
class Axis:
    """One axis of the map from low-resolution cells to pixels, cut into tiles.

    Attributes:
        cells: `(tiles, n)` the cells that a tile's pixels are averages of, ascending; n is the same for all.
        weights: `(tiles, TILE, n)` float32; zero beyond the last pixel.
    """

    cells: npt.NDArray[np.intp]
    weights: Float32

    @classmethod
    def of(cls, matrix: Float32) -> Axis:
        """Cut `matrix (pixels, cells)`, whose rows have their few weights side by side."""
        pixels, cells = matrix.shape
        tiles = -(-pixels // TILE)
        used = matrix != 0
        first, last = used.argmax(axis=1), cells - 1 - used[:, ::-1].argmax(axis=1)
        starts = np.arange(tiles) * TILE
        begin = np.minimum.reduceat(first, starts)
        width = int((np.maximum.reduceat(last, starts) - begin).max()) + 1
        begin = np.minimum(begin, cells - width)
        padded = np.zeros((tiles * TILE, cells), np.float32)
        padded[:pixels] = matrix
        chosen = begin[:, None] + np.arange(width)
        weights = np.take_along_axis(padded.reshape(tiles, TILE, cells), chosen[:, None, :], axis=2)
        return cls(chosen, np.ascontiguousarray(weights))


class Tiling:
    """A photo's tiles."""

    def __init__(self, rows: Float32, columns: Float32) -> None:
        """Cut the two matrices `(H, n)` and `(W, m)` of `masks.axis_matrix`."""
        self._rows, self._columns = Axis.of(rows), Axis.of(columns)
        self._size = (len(rows), len(columns))

    def fill(self, out: Bool, low_res: Float32, threshold: float) -> bool:
        """Write where the logits exceed `threshold` into `out (H, W)`; False where that should be done as a whole.

        Args:
            out: what is written to.
            low_res: `(n, m)` float32 logits of the cells that the photo covers.
            threshold: logits above it are inside.
        """
        rows, columns = self._rows, self._columns
        highest, lowest = self._extremes(low_res, np.maximum), self._extremes(low_res, np.minimum)
        margin = MARGIN * max(float(np.abs(highest).max()), float(np.abs(lowest).max()), abs(threshold))
        inside = lowest > threshold + margin  # (tiles, tiles)
        down, across = np.nonzero(~inside & (highest > threshold - margin))
        if len(down) > DENSE * inside.size:
            return False
        tiles = np.empty((len(rows.cells), TILE, len(columns.cells), TILE), np.bool_)
        tiles[...] = inside[:, None, :, None]
        cells = low_res[rows.cells[down][:, :, None], columns.cells[across][:, None, :]]  # (K, n, m)
        logits = rows.weights[down] @ cells @ columns.weights[across].transpose(0, 2, 1)  # (K, TILE, TILE)
        tiles[down, :, across, :] = logits > threshold
        height, width = self._size
        np.copyto(out, tiles.reshape(len(rows.cells) * TILE, -1)[:height, :width])
        return True

    def _extremes(self, low_res: Float32, reduce: np.ufunc) -> Float32:
        """The largest, or the least, of the logits that a tile depends on: `(tiles, tiles)`."""
        down = reduce.reduce(low_res[self._rows.cells], axis=1)  # (tiles, m)
        found: Float32 = reduce.reduce(down[:, self._columns.cells], axis=2)
        return found
