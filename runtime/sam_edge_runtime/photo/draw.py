"""Masks and prompts drawn on a photo."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import UsageError

from .erosion import eroded

# Seven colours that stay apart for colour-blind readers: Okabe and Ito's eight (jfly.uni-koeln.de/color) without black.
_MASK_COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
_POINT_COLOURS = {int(Label.FOREGROUND): (0, 200, 0), int(Label.BACKGROUND): (220, 0, 0)}
_BOX_COLOUR = (0, 200, 0)
_RIM_COLOUR = (255, 255, 255)
_MASK_OPACITY = 0.45
_GOLDEN = 0.618034  # of the way round the colours from one mask to the next: neighbours in a list stay apart
# Widths as parts of the photo's longest side.
_LINE_PART, _POINT_PART = 1 / 500, 1 / 100


def draw_overlay(
    photo: Photo,
    masks: npt.ArrayLike | None = None,
    points: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike | None = None,
) -> Photo:
    """Show masks and prompts on a photo: a veil and a crisp contour per mask, discs for points, lines for boxes.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: (M, H, W) or (H, W) bool.
        points: (N, 2) x, y in pixels of the photo.
        labels: (N) 1 foreground (green), 0 background (red); others are not drawn. None: all foreground.
        boxes: (K, 4) or (4) x0, y0, x1, y1 in pixels of the photo.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: a mask is not of the photo's size, or points and labels differ in number.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415

    height, width = photo.shape[:2]
    line = max(1, round(max(height, width) * _LINE_PART))
    radius = max(3, round(max(height, width) * _POINT_PART))
    layers = np.asarray([] if masks is None else masks, np.bool_)
    layers = layers.reshape(-1, *layers.shape[-2:]) if layers.ndim >= 2 else np.zeros((0, height, width), np.bool_)
    if layers.shape[1:] != (height, width):
        raise UsageError(f"masks of shape {layers.shape} do not fit a photo of shape {photo.shape}; use (M, H, W)")
    places = np.asarray([] if points is None else points, np.float64).reshape(-1, 2)
    kinds = np.ones(len(places)) if labels is None else np.asarray(labels).reshape(-1)
    if len(kinds) != len(places):
        raise UsageError(f"{len(places)} points have {len(kinds)} labels; give one label a point")

    canvas = Image.fromarray(_veiled(photo, layers, line))
    draw = ImageDraw.Draw(canvas)
    corners = np.asarray([] if boxes is None else boxes, np.float64).reshape(-1, 2, 2)
    corners = np.clip(np.sort(corners, axis=1), -line, [width + line, height + line])
    for top_left, bottom_right in corners.tolist():
        draw.rectangle((*top_left, *bottom_right), outline=_BOX_COLOUR, width=line)
    for (x, y), kind in zip(places.tolist(), kinds.tolist(), strict=True):
        if (colour := _POINT_COLOURS.get(int(kind))) is not None:
            around: Any = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(around, fill=colour, outline=_RIM_COLOUR, width=max(1, radius // 3))
    return np.array(canvas)


def draw_everything(photo: Photo, masks: Iterable[npt.NDArray[np.bool_]], longest: int = 1600) -> Photo:
    """Show all of a photo's masks, each in a colour of its own, small ones over large ones.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: each (H, W) bool, asked for one at a time, the largest first.
        longest: pixels of the picture's longest side; a larger photo is made smaller.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    from PIL import Image  # noqa: PLC0415

    height, width = photo.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.array(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in ((size[1], height), (size[0], width))
    )
    owner = np.zeros(picture.shape[:2], np.int32)  # 0: no mask
    count = 0
    for count, mask in enumerate(masks, 1):
        owner[mask[np.ix_(rows, columns)]] = count
    hues = (np.arange(count) * _GOLDEN) % 1.0
    colours = np.array([(0, 0, 0), *(colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)], np.float32) * 255
    veil = picture * np.float32(1 - _MASK_OPACITY) + colours[owner] * np.float32(_MASK_OPACITY)
    drawn = np.where(owner[:, :, None] > 0, np.rint(veil).astype(np.uint8), picture)
    edge = np.zeros(owner.shape, np.bool_)
    edge[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    edge[1:] |= owner[1:] != owner[:-1]
    drawn[edge] = _RIM_COLOUR
    return drawn


def _veiled(photo: Photo, masks: npt.NDArray[np.bool_], line: int) -> Photo:
    """The photo under each mask's transparent colour, with contours of `line` pixels just inside the masks."""
    picture = photo.copy()
    for index, mask in enumerate(masks):
        colour = np.array(_MASK_COLOURS[index % len(_MASK_COLOURS)], np.float32)
        veil = picture[mask] * np.float32(1 - _MASK_OPACITY) + colour * np.float32(_MASK_OPACITY)
        picture[mask] = np.rint(veil).astype(np.uint8)
    for index, mask in enumerate(masks):
        picture[mask & ~eroded(mask, line)] = _MASK_COLOURS[index % len(_MASK_COLOURS)]
    return picture
