"""Operations that resize images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array


def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """Each pixel of `x (..., H, W)` repeated; the scale factors must be integers."""
    factors = [float(scale_factor_height), float(scale_factor_width)]
    if any(factor != int(factor) for factor in factors):
        raise ValueError(f"scale factors {factors} of upsample_nearest_neighbor")
    return x.repeat(int(factors[0]), axis=-2).repeat(int(factors[1]), axis=-1)


def _source_positions(size: int, wanted: int, mode: str) -> Array:
    """Positions of `wanted` new pixels on an axis of `size`, as coremltools defines them for resize_bilinear."""
    index = np.arange(wanted, dtype=np.float64)
    if mode == "DEFAULT":
        positions = index * (size / wanted)
    elif mode == "ALIGN_CORNERS" and wanted == 1:
        positions = np.full(1, (size - 1) / 2)
    elif mode in {"ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"}:
        positions = index * ((size - 1) / max(wanted - 1, 1))
    elif mode == "OFFSET_CORNERS":
        positions = (index + 0.5) * (max(1, size - 1) / wanted)
    elif mode == "UNALIGN_CORNERS":
        positions = (index + 0.5) * (size / wanted) - 0.5
    else:
        raise ValueError(f"sampling_mode {mode}")
    return np.clip(positions, 0, size - 1)


def _interpolate(x: Array, axis: int, wanted: int, mode: str) -> Array:
    positions = _source_positions(x.shape[axis], wanted, mode)
    low = positions.astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (positions - low).astype(np.float32).reshape(-1, *[1] * (-1 - axis))
    return np.asarray(x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight)


def resize_bilinear(
    x: Array, target_size_height: Any = 1, target_size_width: Any = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    """`x (..., H, W)` resized bilinearly to a target size."""
    return _interpolate(
        _interpolate(x, -2, int(target_size_height), sampling_mode), -1, int(target_size_width), sampling_mode
    )


def upsample_bilinear(
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:
    """`x (..., H, W)` resized bilinearly by scale factors; sizes are rounded down."""
    height, width = int(x.shape[-2] * float(scale_factor_height)), int(x.shape[-1] * float(scale_factor_width))
    if bool(align_corners):
        return resize_bilinear(x, height, width, "STRICT_ALIGN_CORNERS")
    centers = half_pixel_centers is None or bool(half_pixel_centers)
    return resize_bilinear(x, height, width, "UNALIGN_CORNERS" if centers else "DEFAULT")


def resize(
    x: Array, shape: Array, resized_dims: Any, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> Array:
    """The last `resized_dims` axes resized to the last sizes of `shape`; 0 keeps an axis."""
    if interpolation_mode != "LINEAR":
        raise ValueError(f"interpolation_mode {interpolation_mode} of resize")
    for axis in range(-int(resized_dims), 0):
        if int(shape[axis]) != 0:
            x = _interpolate(x, axis, int(shape[axis]), sampling_mode)
    return x


IMAGE_RESIZING: dict[str, Callable[..., Any]] = {
    "resize": resize,
    "resize_bilinear": resize_bilinear,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
