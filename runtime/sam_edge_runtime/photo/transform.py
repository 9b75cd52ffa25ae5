"""`segment_anything.utils.transforms.ResizeLongestSide` in numpy: names, shapes and rounding of segment_anything 1.0.

`SamPredictor.transform` is one. The predictor resizes by itself; this class is for code that calls the reference's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import UsageError

from .frame import Frame

_TORCH_TWINS = {
    "apply_image_torch": "apply_image(image)",
    "apply_coords_torch": "apply_coords(coords, original_size)",
    "apply_boxes_torch": "apply_boxes(boxes, original_size)",
}


class ResizeLongestSide:
    """Photos and coordinates in the scale of a frame, whose longest side is `target_length` pixels.

    Attributes:
        target_length: side S of the frame in pixels.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The photo resized, without padding.

        Args:
            image: (H, W, 3) uint8.

        Returns:
            (h, w, 3) uint8, max(h, w) = S.

        Raises:
            UsageError: `image` is no such array.
            PhotoError: it is empty or far too narrow.
        """
        if getattr(image, "ndim", 0) != 3:
            raise UsageError(f"the image has shape {getattr(image, 'shape', None)}; give a uint8 array (H, W, 3)")
        height, width = image.shape[:2]
        return Frame(FrameSize.square(self.target_length), (height, width)).resize(image)

    def apply_coords(self, coords: npt.ArrayLike, original_size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Coordinates in the frame's scale.

        Args:
            coords: (..., 2) x, y in pixels of the photo.
            original_size: (H, W) of the photo.

        Returns:
            (..., 2) float64 x, y in pixels of the frame.
        """
        height, width = original_size
        new_height, new_width = Frame(FrameSize.square(self.target_length), (height, width)).resized_size
        scaled: npt.NDArray[np.float64] = np.asarray(coords, np.float64) * (new_width / width, new_height / height)
        return scaled

    def apply_boxes(self, boxes: npt.ArrayLike, original_size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Boxes (B, 4) or (4,), x0, y0, x1, y1 in pixels of the photo, as (B, 4) float64 in pixels of the frame."""
        return self.apply_coords(np.asarray(boxes, np.float64).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """(h, w) of a photo of (oldh, oldw) pixels once its longest side is `long_side_length`."""
        return Frame(FrameSize.square(long_side_length), (oldh, oldw)).resized_size

    if not TYPE_CHECKING:  # a type checker should go on to report unknown names

        def __getattr__(self, name: str) -> Any:
            if name in _TORCH_TWINS:
                raise AttributeError(f"{name} takes torch tensors, which this runtime lacks: use {_TORCH_TWINS[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
