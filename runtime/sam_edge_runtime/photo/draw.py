"""Draws masks and prompts on photos."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import UsageError

from .erosion import eroded

# Colours that colour-blind readers can tell apart: Okabe and Ito's eight (jfly.uni-koeln.de/color) without black.
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
_HUE_STEP = 0.618034  # from one mask to the next; the golden ratio keeps neighbours in a list apart
# Shares of the photo's longest side.
_LINE_WIDTH, _POINT_RADIUS, _TEXT_HEIGHT = 1 / 500, 1 / 100, 1 / 30


def draw_overlay(
    photo: Photo,
    masks: npt.ArrayLike | None = None,
    points: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike | None = None,
) -> Photo:
    """Draw masks and prompts on a photo.

    Each mask gets a translucent fill and a solid contour in one of seven colours that colour-blind readers can tell
    apart, points are discs, and boxes are outlines. Line widths follow the photo's size.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: (M, H, W) or (H, W) bool.
        points: (N, 2) x, y in pixels of the photo.
        labels: (N) 1 for foreground (green), 0 for background (red); points with other labels are not drawn. None: all
            are foreground.
        boxes: (K, 4) or (4) x0, y0, x1, y1 in pixels of the photo.

    Returns:
        The drawing, (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the masks do not have the photo's size, or points and labels differ in number.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415

    height, width = photo.shape[:2]
    line = max(1, round(max(height, width) * _LINE_WIDTH))
    radius = max(3, round(max(height, width) * _POINT_RADIUS))
    layers = np.asarray([] if masks is None else masks, np.bool_)
    layers = layers.reshape(-1, *layers.shape[-2:]) if layers.ndim >= 2 else np.zeros((0, height, width), np.bool_)
    if layers.shape[1:] != (height, width):
        raise UsageError(f"masks of shape {layers.shape} do not fit a photo of shape {photo.shape}; use (M, H, W)")
    xy = np.asarray([] if points is None else points, np.float64).reshape(-1, 2)
    kinds = np.ones(len(xy)) if labels is None else np.asarray(labels).reshape(-1)
    if len(kinds) != len(xy):
        raise UsageError(f"{len(xy)} points have {len(kinds)} labels; give one label per point")

    canvas = Image.fromarray(_filled(photo, layers, line))
    draw = ImageDraw.Draw(canvas)
    corners = np.asarray([] if boxes is None else boxes, np.float64).reshape(-1, 2, 2)
    corners = np.clip(np.sort(corners, axis=1), -line, [width + line, height + line])
    for top_left, bottom_right in corners.tolist():
        draw.rectangle((*top_left, *bottom_right), outline=_BOX_COLOUR, width=line)
    for (x, y), kind in zip(xy.tolist(), kinds.tolist(), strict=True):
        if (colour := _POINT_COLOURS.get(int(kind))) is not None:
            around: Any = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(around, fill=colour, outline=_RIM_COLOUR, width=max(1, radius // 3))
    return np.array(canvas)


def draw_all_masks(photo: Photo, masks: Iterable[npt.NDArray[np.bool_]], longest: int = 1600) -> Photo:
    """Draw all masks of a photo, each in its own colour; later masks cover earlier ones.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: each (H, W) bool, best the largest first; only one is in memory at a time.
        longest: longest side of the drawing, in pixels; a larger photo is downscaled.

    Returns:
        The drawing, (h, w, 3) uint8 RGB.
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
    hues = (np.arange(count) * _HUE_STEP) % 1.0
    colours = np.array([(0, 0, 0), *(colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)], np.float32) * 255
    blend = picture * np.float32(1 - _MASK_OPACITY) + colours[owner] * np.float32(_MASK_OPACITY)
    drawn = np.where(owner[:, :, None] > 0, np.rint(blend).astype(np.uint8), picture)
    edge = np.zeros(owner.shape, np.bool_)
    edge[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    edge[1:] |= owner[1:] != owner[:-1]
    drawn[edge] = _RIM_COLOUR
    return drawn


def middle_of(mask: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """The centre of a mask's pixel that lies nearest to its mean position: x, y as shares of the mask's sides.

    None for a mask without pixels.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return (float(columns[nearest]) + 0.5) / mask.shape[1], (float(rows[nearest]) + 0.5) / mask.shape[0]


def draw_names(photo: Photo, named: Sequence[tuple[str, tuple[float, float]]]) -> Photo:
    """Write names on a photo.

    Args:
        photo: (h, w, 3) uint8 RGB, a photo or a drawing of it; it is not changed.
        named: names, and the place of each as `middle_of` gives it.

    Returns:
        The drawing, (h, w, 3) uint8 RGB.
    """
    if not named:
        return photo
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    canvas = Image.fromarray(photo)
    draw = ImageDraw.Draw(canvas)
    size = max(10, round(max(photo.shape[:2]) * _TEXT_HEIGHT))
    font = ImageFont.load_default(size)
    for name, (across, down) in named:
        x, y = across * photo.shape[1], down * photo.shape[0]
        width = draw.textlength(name, font=font)
        x = float(np.clip(x, width / 2, max(width / 2, photo.shape[1] - width / 2)))
        y = float(np.clip(y, size / 2, max(size / 2, photo.shape[0] - size / 2)))
        rim = max(1, size // 10)
        draw.text((x, y), name, _RIM_COLOUR, font, anchor="mm", stroke_width=rim, stroke_fill=(0, 0, 0))
    return np.array(canvas)


def _filled(photo: Photo, masks: npt.NDArray[np.bool_], line: int) -> Photo:
    """The photo with each mask's translucent fill, and a contour `line` pixels wide inside its outline."""
    picture = photo.copy()
    for index, mask in enumerate(masks):
        colour = np.array(_MASK_COLOURS[index % len(_MASK_COLOURS)], np.float32)
        blend = picture[mask] * np.float32(1 - _MASK_OPACITY) + colour * np.float32(_MASK_OPACITY)
        picture[mask] = np.rint(blend).astype(np.uint8)
    for index, mask in enumerate(masks):
        picture[mask & ~eroded(mask, line)] = _MASK_COLOURS[index % len(_MASK_COLOURS)]
    return picture
