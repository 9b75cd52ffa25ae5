"""Low-resolution logits to logits of the photo's size.

The reference (segment_anything 1.0, modeling/sam.py, `Sam.postprocess_masks`) interpolates the decoder's S/4 x S/4
logits bilinearly to S x S, crops away the padding and interpolates bilinearly to the photo. Each step is linear and
treats rows and columns alike and apart, so the whole is rows @ low_res @ columns.T with two small matrices
that depend on the geometry alone. They are cut up once per geometry and applied by matrix products, without the S x S
picture in between. A pixel is an average of a few neighbouring cells, so the matrices are mostly zeros; cut into bands
of `BAND` pixels they have little else than the rest. What a band gives is looked at while it is in the cache, and its
product is so small that OpenBLAS wakes no threads for it, which would stay awake in the decoder's way for a while.
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

from .frame import Frame

# Two axes a photo; 16 let a host alternate between a few photo sizes.
_CACHED_AXES = 16
# Pixels. OpenBLAS computes up to 2^18 multiplications without other threads (interface/gemm.c: SMP_THRESHOLD_MIN times
# GEMM_MULTITHREAD_THRESHOLD); with 16 rows that holds for photos up to 4,000 pixels wide.
BAND = 16


def _interpolation(inputs: int, outputs: int) -> npt.NDArray[np.float64]:
    """The matrix (outputs, inputs) of bilinear interpolation with align_corners=False.

    Source positions are float32, as torch computes them for float32 tensors (ATen/native/UpSample.h,
    `area_pixel_compute_source_index`), with the product and the subtraction rounded once: torch's kernels for AVX2 and
    newer fuse the two. Near position 1000 other rounding moves a pixel by 3e-5, its logit by that part of the slope.
    """
    scale = np.float64(np.float32(inputs) / np.float32(outputs))
    # In float64 the product of two float32 numbers is exact, so the one rounding is the cast.
    position = np.maximum((scale * (np.arange(outputs) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    lower = np.minimum(position.astype(np.int64), inputs - 1)
    upper = np.minimum(lower + 1, inputs - 1)
    weight = np.clip(position - lower.astype(np.float32), 0, 1).astype(np.float64)
    matrix = np.zeros((outputs, inputs))
    rows = np.arange(outputs)
    matrix[rows, lower] = 1 - weight
    matrix[rows, upper] += weight  # at the last input both are the same cell
    return matrix


def axis_matrix(side: int, resized: int, original: int) -> Float32:
    """One axis of the whole map: S/4 low-res cells -> S frame pixels -> the first `resized` -> `original` photo pixels.

    Returns:
        (original, n) float32; n <= S/4 leaves out the cells that lie in the padding alone.
    """
    to_frame = _interpolation(side // MASK_STRIDE, side)[:resized]
    matrix = (_interpolation(resized, original) @ to_frame).astype(np.float32)
    used = int(np.flatnonzero(matrix.any(axis=0))[-1]) + 1
    return matrix[:, :used]


@dataclass(frozen=True, eq=False)
class Band:
    """Neighbouring pixels of one axis, and the cells that they are averages of.

    Attributes:
        pixels: which of the axis.
        cells: likewise.
        weights: `(pixels, cells)` float32: the part of `axis_matrix` that is not zero.
    """

    pixels: slice
    cells: slice
    weights: Float32


@lru_cache(maxsize=_CACHED_AXES)
def _bands(side: int, resized: int, original: int) -> tuple[Band, ...]:
    """An axis in bands."""
    matrix = axis_matrix(side, resized, original)
    found = []
    for start in range(0, original, BAND):
        part = matrix[start : start + BAND]
        used = np.flatnonzero(part.any(axis=0))
        cells = slice(int(used[0]), int(used[-1]) + 1)
        found.append(Band(slice(start, start + len(part)), cells, np.ascontiguousarray(part[:, cells])))
    return tuple(found)


def check_low_res(low_res: Float32, frame: Frame) -> None:
    """Refuse low-resolution masks that are not (K, S/4, S/4) of a frame.

    Raises:
        UsageError: `low_res` is of another frame size.
    """
    cells = frame.side // MASK_STRIDE
    if low_res.ndim != 3 or low_res.shape[1:] != (cells, cells):
        raise UsageError(
            f"low-resolution masks of shape {low_res.shape} do not belong to a frame of {frame.side} pixels, "
            f"whose masks are (K, {cells}, {cells})"
        )


def _in_bands(low_res: Float32, frame: Frame) -> Iterator[tuple[slice, Float32]]:
    """The logits `(n, W)` of one mask (S/4, S/4), n rows of the photo at a time, and which rows."""
    (height, width), (new_height, new_width) = frame.original_size, frame.resized_size
    rows = _bands(frame.side, new_height, height)
    wide = np.empty((rows[-1].cells.stop, width), np.float32)
    for band in _bands(frame.side, new_width, width):
        np.matmul(low_res[: len(wide), band.cells], band.weights.T, out=wide[:, band.pixels])
    for band in rows:
        yield band.pixels, band.weights @ wide[band.cells]


def upscale(low_res: Float32, frame: Frame) -> Float32:
    """Logits in the photo's size.

    Args:
        low_res: (K, S/4, S/4) float32 logits as the decoder gives them, all finite.
        frame: how the photo lies in the frame.

    Returns:
        (K, H, W) float32 logits, within 1e-4 of the reference's two interpolations.

    Raises:
        UsageError: `low_res` is of another frame size.
    """
    check_low_res(low_res, frame)
    logits = np.empty((len(low_res), *frame.original_size), np.float32)
    for one, out in zip(low_res, logits, strict=True):
        for rows, found in _in_bands(one, frame):
            out[rows] = found
    return logits


def upscale_binary(low_res: Float32, frame: Frame, threshold: float = MASK_THRESHOLD) -> npt.NDArray[np.bool_]:
    """Masks in the photo's size: where the logits of `upscale` exceed `threshold`.

    A band of one mask's logits is held at a time, so that masks of a large photo cost one byte a pixel and not five.

    Args:
        low_res: (K, S/4, S/4) float32 logits.
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
        for rows, found in _in_bands(one, frame):
            np.greater(found, threshold, out=out[rows])
    return masks
