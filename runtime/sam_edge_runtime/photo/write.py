"""Encodes photos and masks as picture files."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.errors import UsageError


def jpeg_bytes(picture: Photo, quality: int = 90) -> bytes:
    """A JPEG file of a picture (H, W, 3) uint8 RGB; `quality` from 1 to 95."""
    from PIL import Image  # noqa: PLC0415

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def png_bytes(pixels: npt.NDArray[np.bool_] | Photo) -> bytes:
    """A PNG file of a mask (H, W) bool, written as 0 and 255, or of a picture (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the array is neither.
    """
    from PIL import Image  # noqa: PLC0415

    is_mask = pixels.ndim == 2 and pixels.dtype == np.bool_
    is_picture = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not pixels.size or not (is_mask or is_picture):
        raise UsageError(
            f"a {pixels.dtype} array of shape {pixels.shape} is no picture; give (H, W) bool or (H, W, 3) uint8"
        )
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * np.uint8(255) if is_mask else pixels).save(file, "PNG")
    return file.getvalue()
