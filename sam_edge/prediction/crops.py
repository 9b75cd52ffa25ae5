"""Square crops of a photo around its masks, as CLIP's image encoder takes them.

"Segment Anything" (https://arxiv.org/abs/2304.02643, appendix D.5) crops the mask's box, enlarged 1 to 2 times, as a
square, and sets what lies outside of the mask to zero in half of its training crops. What lies outside of the photo or
the mask has the encoder's mean colour here, which is zero after its normalization.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_edge_runtime.arrays import Float32, Float64, Photo
from sam_edge_runtime.errors import UsageError

Masks = npt.NDArray[np.bool_]
LARGEST_FACTOR = 4.0


@dataclass(frozen=True)
class CropSettings:
    """How crops are taken.

    Attributes:
        enlarge: side of the crop in sides of the mask's box, 1 to 4.
        zero_background: whether pixels outside of the mask get the mean colour.

    Raises:
        UsageError: `enlarge` is out of range.
    """

    enlarge: float = 1.5
    zero_background: bool = True

    def __post_init__(self) -> None:
        if not 1.0 <= self.enlarge <= LARGEST_FACTOR:
            raise UsageError(
                f"crops of {self.enlarge} times the mask's box: choose a factor from 1 to {LARGEST_FACTOR}"
            )


DEFAULT_CROPS = CropSettings()


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops of one photo.

    Attributes:
        pixels: `(M, 3, side, side)` float32 RGB in 0..255.
        inside: `(M, side, side)` bool: the masks in the same crops.
    """

    pixels: Float32
    inside: Masks

    def patches(self, patch: int) -> Float32:
        """`(M, patches)` 1 where a patch of `patch` pixels has a pixel of the mask, else 0, row by row."""
        count, side, _ = self.inside.shape
        blocks = self.inside.reshape(count, side // patch, patch, side // patch, patch)
        return blocks.any(axis=(2, 4)).reshape(count, -1).astype(np.float32)


def square_boxes(masks: Masks, enlarge: float | Float64) -> Float64:
    """The square around each mask's box, `(M, 4)` x0, y0, x1, y1 in pixels; it may leave the photo.

    Args:
        masks: `(M, H, W)` bool; none is empty.
        enlarge: side of the square in longer sides of the box; one number, or `(M,)`.

    Raises:
        UsageError: a mask is empty.
    """
    rows: Masks = np.asarray(masks.any(axis=2), np.bool_)  # (M, H)
    columns: Masks = np.asarray(masks.any(axis=1), np.bool_)  # (M, W)
    full = np.asarray(rows.any(axis=1), np.bool_)
    if not full.all():
        raise UsageError(f"mask {int((~full).argmax())} is empty: leave it out")
    y0, x0 = rows.argmax(axis=1), columns.argmax(axis=1)
    y1, x1 = rows.shape[1] - rows[:, ::-1].argmax(axis=1), columns.shape[1] - columns[:, ::-1].argmax(axis=1)
    half = np.maximum(x1 - x0, y1 - y0) * np.asarray(enlarge, np.float64) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.stack([x - half, y - half, x + half, y + half], axis=1)


def crop_masks(
    photo: Photo,
    masks: Masks,
    side: int,
    fill: tuple[float, float, float],
    enlarge: float | Float64 = 1.5,
    zeroed: bool | npt.NDArray[np.bool_] = True,
) -> Crops:
    """Crop a photo around each mask, and resize each crop.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        masks: `(M, H, W)` bool; none is empty.
        side: of the crops, in pixels.
        fill: RGB in 0..255 outside of the photo, and where a background is left out.
        enlarge: side of the crop in longer sides of the mask's box; one number, or one for each mask.
        zeroed: whether pixels outside of the mask are filled; likewise.

    Raises:
        UsageError: the masks have another size than the photo, or one is empty.
    """
    if masks.ndim != 3 or masks.shape[1:] != photo.shape[:2]:
        raise UsageError(f"masks of shape {masks.shape} do not fit a photo of shape {photo.shape}: use (M, H, W)")
    boxes = square_boxes(masks, enlarge)
    pixels = np.empty((len(masks), 3, side, side), np.float32)
    inside = np.empty((len(masks), side, side), np.bool_)
    colour = np.rint(np.asarray(fill)).astype(np.uint8)
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        x0, y0 = np.floor(box[:2]).astype(int)
        x1, y1 = np.maximum(np.ceil(box[2:]).astype(int), (x0 + 1, y0 + 1))
        rows, columns = (slice(max(low, 0), high) for low, high in ((y0, y1), (x0, x1)))
        part, within = photo[rows, columns], mask[rows, columns]
        if np.broadcast_to(zeroed, len(masks))[index]:
            part = np.where(within[:, :, None], part, colour)
        around = (y0 - rows.start, y1 - photo.shape[0], x0 - columns.start, x1 - photo.shape[1])
        padding = ((max(-around[0], 0), max(around[1], 0)), (max(-around[2], 0), max(around[3], 0)))
        square = np.stack(
            [np.pad(part[:, :, channel], padding, constant_values=colour[channel]) for channel in range(3)], axis=2
        )
        left, top, right, bottom = (float(value) for value in box - np.array([x0, y0, x0, y0]))
        local = (left, top, right, bottom)
        resized = Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC, local)
        pixels[index] = np.asarray(resized, np.float32).transpose(2, 0, 1)
        covered = Image.fromarray(np.pad(within, padding).astype(np.uint8) * 255)
        inside[index] = np.asarray(covered.resize((side, side), Image.Resampling.BOX, local)) > 0
    return Crops(pixels, inside)
