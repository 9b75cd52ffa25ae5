"""Low-resolution logits to logits or masks at the photo's size.

The reference (segment_anything 1.0, modeling/sam.py, `Sam.postprocess_masks`) interpolates the decoder's H/4 x W/4
logits bilinearly to the frame's H x W, crops the padding, and interpolates bilinearly to the photo's size. Every step
is linear and separable, so the whole is `rows @ low_res @ columns.T` with two small matrices that depend on the
geometry alone, and the H x W picture is never made. Where the photo was stretched to the frame, one interpolation leads
from the logits to the photo's size: bilinear as in SAM 2's reference (sam2/utils/transforms.py, `postprocess_masks`),
or bicubic as in EfficientSAM's (efficient_sam/efficient_sam.py, `predict_masks`).

A pixel is a mean of few neighbouring cells, so the matrices are mostly zeros. They are split once per geometry into
bands of `BAND` pixels with the zeros left out. A band's logits are consumed while they are in the cache, and the
product is so small that OpenBLAS starts no threads for it; its threads would spin for a while beside the decoder's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import MASK_STRIDE, MASK_THRESHOLD
from sam_edge_runtime.errors import UsageError

from .frame import Axis, Frame
from .interpolation import bicubic, bilinear

# Two axes per photo size: enough to alternate between eight sizes.
_CACHED_AXES = 16
# Pixels. OpenBLAS computes up to 2^18 multiplications on one thread (interface/gemm.c: SMP_THRESHOLD_MIN times
# GEMM_MULTITHREAD_THRESHOLD); with 16 rows that holds for photos up to 4,000 pixels wide.
BAND = 16


def axis_matrix(axis: Axis) -> Float32:
    """The matrix of one axis: low-resolution cells to frame pixels, those with the photo to the photo's pixels.

    Returns:
        (original, n) float32 with n <= size/4: cells that lie wholly in the padding are left out.
    """
    cells = axis.size // MASK_STRIDE
    if axis.resized is None:
        interpolation = bicubic if axis.bicubic else bilinear
        return interpolation(cells, axis.original).astype(np.float32)
    to_frame = bilinear(cells, axis.size)[: axis.resized]
    matrix = (bilinear(axis.resized, axis.original) @ to_frame).astype(np.float32)
    used = int(np.flatnonzero(matrix.any(axis=0))[-1]) + 1
    return matrix[:, :used]


@dataclass(frozen=True, eq=False)
class Band:
    """Neighbouring pixels of one axis, and the cells that they depend on.

    Attributes:
        pixels: of the photo.
        cells: of the low-resolution mask.
        weights: (pixels, cells) float32: the part of `axis_matrix` that is not zero.
    """

    pixels: slice
    cells: slice
    weights: Float32


@lru_cache(maxsize=_CACHED_AXES)
def _bands(axis: Axis) -> tuple[Band, ...]:
    """The bands of an axis."""
    matrix = axis_matrix(axis)
    bands = []
    for start in range(0, axis.original, BAND):
        part = matrix[start : start + BAND]
        used = np.flatnonzero(part.any(axis=0))
        cells = slice(int(used[0]), int(used[-1]) + 1)
        bands.append(Band(slice(start, start + len(part)), cells, np.ascontiguousarray(part[:, cells])))
    return tuple(bands)


def check_low_res(low_res: Float32, frame: Frame) -> None:
    """Refuse low-resolution masks whose shape is not (K, H/4, W/4) of a frame.

    Raises:
        UsageError: `low_res` is of another frame size.
    """
    rows, columns = frame.size.cells
    if low_res.ndim != 3 or low_res.shape[1:] != (rows, columns):
        raise UsageError(
            f"low-resolution masks of shape {low_res.shape} do not belong to a frame of {frame.size.name} pixels, "
            f"whose masks are (K, {rows}, {columns})"
        )


def _in_bands(low_res: Float32, frame: Frame) -> Iterator[tuple[slice, Float32]]:
    """For each band of rows: the rows, and their logits (n, W) of one mask (H/4, W/4)."""
    down, across = frame.axes
    rows = _bands(down)
    wide = np.empty((rows[-1].cells.stop, across.original), np.float32)
    for band in _bands(across):
        np.matmul(low_res[: len(wide), band.cells], band.weights.T, out=wide[:, band.pixels])
    for band in rows:
        yield band.pixels, band.weights @ wide[band.cells]


def upscale(low_res: Float32, frame: Frame) -> Float32:
    """Upscale logits to the photo's size.

    Args:
        low_res: (K, H/4, W/4) float32 logits of the decoder, all finite; H and W are the frame's.
        frame: how the photo lies in the frame.

    Returns:
        (K, H, W) float32 logits, within 1e-4 of the reference's two interpolations.

    Raises:
        UsageError: `low_res` is of another frame size.
    """
    check_low_res(low_res, frame)
    logits = np.empty((len(low_res), *frame.original_size), np.float32)
    for one, out in zip(low_res, logits, strict=True):
        for rows, band in _in_bands(one, frame):
            out[rows] = band
    return logits


def upscale_binary(low_res: Float32, frame: Frame, threshold: float = MASK_THRESHOLD) -> npt.NDArray[np.bool_]:
    """Masks at the photo's size: where the logits of `upscale` exceed `threshold`.

    Only one band of logits is in memory at a time: a mask takes one byte per pixel, not five.

    Args:
        low_res: (K, H/4, W/4) float32 logits; H and W are the frame's.
        frame: how the photo lies in the frame.
        threshold: logits above it are inside.

    Returns:
        (K, H, W) bool.

    Raises:
        UsageError: `low_res` is of another frame size.
    """
    check_low_res(low_res, frame)
    masks = np.empty((len(low_res), *frame.original_size), np.bool_)
    for one, out in zip(low_res, masks, strict=True):
        for rows, band in _in_bands(one, frame):
            np.greater(band, threshold, out=out[rows])
    return masks
