"""Baselines without a network: a mask from the same box.

The inscribed ellipse is a surprisingly good guess at an object. GrabCut ("GrabCut", SIGGRAPH 2004) is OpenCV's. A model
has to beat both to be worth its size.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Mask
from sam_edge_runtime.errors import UsageError

Box = tuple[int, int, int, int]
ITERATIONS = 5


def box_mask(size: tuple[int, int], box: Box) -> Mask:
    """All pixels of a box x0, y0, x1, y1, including row y1 and column x1, in a photo of `size` (H, W)."""
    mask = np.zeros(size, np.bool_)
    x0, y0, x1, y1 = box
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def ellipse_mask(size: tuple[int, int], box: Box) -> Mask:
    """The pixels whose centres lie in the ellipse inscribed in the box."""
    x0, y0, x1, y1 = box
    half_w, half_h = (x1 - x0 + 1) / 2, (y1 - y0 + 1) / 2
    x = (np.arange(size[1]) + 0.5 - x0 - half_w) / half_w
    y = (np.arange(size[0]) + 0.5 - y0 - half_h) / half_h
    inside: Mask = x[None, :] ** 2 + y[:, None] ** 2 <= 1.0
    return inside


def has_opencv() -> bool:
    """Whether OpenCV is installed. It is not imported."""
    return find_spec("cv2") is not None


def grabcut_mask(photo: npt.NDArray[np.uint8], box: Box) -> Mask:
    """OpenCV's GrabCut from the box, five iterations, with a fixed seed.

    If the box covers the whole photo there is no background to learn from, and the mask is the box.

    Args:
        photo: `(H, W, 3)` RGB.
        box: x0, y0, x1, y1 in pixels; row y1 and column x1 are inside.

    Raises:
        UsageError: OpenCV is not installed.
    """
    try:
        import cv2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("GrabCut needs OpenCV: pip install 'sam-edge[evaluate]', or use --no-grabcut") from error
    x0, y0, x1, y1 = box
    size = photo.shape[:2]
    if (x1 - x0 + 1) * (y1 - y0 + 1) >= size[0] * size[1]:
        return box_mask((size[0], size[1]), box)
    cv2.setRNGSeed(0)
    labels = np.zeros(size, np.uint8)
    models = np.zeros((2, 1, 65))
    rectangle = (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
    try:
        cv2.grabCut(
            photo[:, :, ::-1].copy(), labels, rectangle, models[0], models[1], ITERATIONS, cv2.GC_INIT_WITH_RECT
        )
    except cv2.error:  # too few colours for its models
        return box_mask((size[0], size[1]), box)
    mask: Mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask
