"""The geometry between a photo and the frame: the S x S pixels that the encoder takes.

The photo is resized so that its longest side is S, then padded at the bottom and right with the pixel mean. Rounding,
filter and coordinate scaling are those of the reference (segment_anything 1.0, utils/transforms.py,
`ResizeLongestSide`), so the encoder gets the same bytes: torchvision's `resize` of a PIL picture is Pillow's
antialiased bilinear filter, too. The reference pads with zeros after normalization. Normalization is inside our graphs,
so the pixel mean comes before it: mean - mean is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.bundle.contract import PIXEL_MEAN
from sam_edge_runtime.errors import PhotoError, UsageError


@dataclass(frozen=True)
class Frame:
    """How a photo lies in the frame.

    Attributes:
        side: side S of the square frame, in pixels.
        original_size: (H, W) of the photo, in pixels.

    Raises:
        UsageError: `side` is less than 1.
        PhotoError: the photo has no pixels, or is so narrow that its short side would have no pixel in the frame.
    """

    side: int
    original_size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UsageError(f"frame side {self.side} is not positive; use the input side of the bundle's manifest")
        height, width = self.original_size
        if height < 1 or width < 1:
            raise PhotoError(f"a photo of {width}x{height} pixels is empty; use one with at least one pixel")
        if min(self.resized_size) < 1:
            raise PhotoError(
                f"a photo of {width}x{height} pixels is too narrow: resized to a longest side of {self.side}, its "
                "short side has no pixel; crop it to a squarer part"
            )

    @property
    def resized_size(self) -> tuple[int, int]:
        """(h, w) of the photo in the frame, in pixels: the longest side is S, the other is rounded half up."""
        height, width = self.original_size
        scale = self.side * 1.0 / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def resize(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize the photo to the frame's scale, without padding.

        Args:
            photo: (H, W, 3) uint8, of this frame's `original_size`.

        Returns:
            (h, w, 3) uint8, bit-equal to torchvision's resize of the PIL picture.
        """
        from PIL import Image  # noqa: PLC0415 - loaded by the first photo, not by the import

        if photo.shape != (*self.original_size, 3) or photo.dtype != np.uint8:
            raise UsageError(
                f"a {photo.dtype} array of shape {photo.shape} is not the photo of this frame, "
                f"which is uint8 of shape {(*self.original_size, 3)}"
            )
        height, width = self.resized_size
        return np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))

    def image(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The encoder's input: the resized photo, padded at the bottom and right with the pixel mean.

        Args:
            photo: (H, W, 3) uint8 RGB, of this frame's `original_size`.

        Returns:
            (1, 3, S, S) float32 RGB in 0..255, not normalized.
        """
        height, width = self.resized_size
        image = np.empty((1, 3, self.side, self.side), np.float32)
        image[:] = np.array(PIXEL_MEAN, np.float32).reshape(1, 3, 1, 1)
        image[0, :, :height, :width] = self.resize(photo).transpose(2, 0, 1)
        return image

    def to_frame(self, coords: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Scale coordinates from the photo to the frame.

        As in the reference, each axis is scaled by its own rounded size, in float64, and rounded to float32 once.

        Args:
            coords: (..., 2) x, y in pixels of the photo.

        Returns:
            (..., 2) float32 x, y in pixels of the frame.
        """
        height, width = self.original_size
        new_height, new_width = self.resized_size
        scale = np.array([new_width / width, new_height / height])
        in_frame: npt.NDArray[np.float32] = (np.asarray(coords, np.float64) * scale).astype(np.float32)
        return in_frame
