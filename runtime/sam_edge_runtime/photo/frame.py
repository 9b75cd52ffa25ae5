"""The geometry between a photo and the frame: the H x W pixels that the encoder takes.

The photo is resized to fit into the frame, then padded at the bottom and right with the pixel mean. The reference's
frame is a square of side S, so the photo's longest side becomes S. Other frames keep that scale for photos of their
shape, and have less padding. Where a bundle has several frames, a photo goes into the one that it fills best. For
models that want it (SAM 2), the photo is stretched to the whole frame instead.

Rounding, filter and coordinate scaling are those of the reference (segment_anything 1.0, utils/transforms.py,
`ResizeLongestSide`), so the encoder gets the same bytes: torchvision's `resize` of a PIL picture is Pillow's
antialiased bilinear filter, too. The reference pads with zeros after normalization. Normalization is inside our graphs,
so the pixel mean comes before it: mean - mean is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.bundle.contract import FRAME_STEP, PIXEL_MEAN, SMALLEST_SHORT_SIDE, FrameSize, image_size
from sam_edge_runtime.bundle.conventions import SAM, Conventions
from sam_edge_runtime.errors import PhotoError, UsageError

from .interpolation import bilinear_weights

MUCH_WASTE = 0.3  # share of padding in a frame that is no square, above which another frame is advised


class Axis(NamedTuple):
    """One axis of the geometry, in pixels.

    Attributes:
        size: of the frame.
        resized: of the photo in the frame; None where it is stretched to the whole.
        original: of the photo.
        bicubic: whether masks are resized bicubically; only where the photo is stretched.
    """

    size: int
    resized: int | None
    original: int
    bicubic: bool = False


class Framed(Protocol):
    """What takes photos in frames; a `Manifest` does.

    Attributes:
        frames: sizes (H, W) of the frames to choose from, in pixels.
        conventions: of the model's family.
    """

    @property
    def frames(self) -> tuple[FrameSize, ...]: ...  # noqa: D102
    @property
    def conventions(self) -> Conventions: ...  # noqa: D102


@dataclass(frozen=True)
class Frame:
    """How a photo lies in the frame.

    Attributes:
        size: (height, width) of the frame, in pixels.
        original_size: (H, W) of the photo, in pixels.
        conventions: of the model's family: whether the photo is stretched to the whole frame, and the filters.

    Raises:
        UsageError: a side of the frame is less than 1.
        PhotoError: the photo has no pixels, or is so narrow that its short side would have no pixel in the frame.
    """

    size: FrameSize
    original_size: tuple[int, int]
    conventions: Conventions = SAM

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise UsageError(f"a frame of {self.size.name} pixels is empty; use a frame of the bundle's manifest")
        height, width = self.original_size
        if height < 1 or width < 1:
            raise PhotoError(f"a photo of {width}x{height} pixels is empty; use one with at least one pixel")
        if min(self.resized_size) < 1:
            raise PhotoError(
                f"a photo of {width}x{height} pixels is too narrow: resized to a longest side of "
                f"{self.size.side}, its short side has no pixel; crop it to a squarer part"
            )

    @property
    def resized_size(self) -> tuple[int, int]:
        """(h, w) of the photo in the frame, in pixels: one side is the frame's, the other is rounded half up."""
        if self.conventions.stretched:
            return self.size
        (height, width), (frame_height, frame_width) = self.original_size, self.size
        # As the reference does it: the scale is rounded before it multiplies.
        if frame_height * width <= frame_width * height:
            scale = frame_height * 1.0 / height
        else:
            scale = frame_width * 1.0 / width
        return int(height * scale + 0.5), int(width * scale + 0.5)

    @property
    def waste(self) -> float:
        """Share of the frame that is padding, 0..1."""
        (h, w), (height, width) = self.resized_size, self.size
        return 1.0 - h * w / (height * width)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The geometry down and across."""
        if self.conventions.stretched:
            bicubic = self.conventions.bicubic_masks
            down, across = (
                Axis(*each, bicubic) for each in zip(self.size, (None, None), self.original_size, strict=True)
            )
        else:
            down, across = (Axis(*each) for each in zip(self.size, self.resized_size, self.original_size, strict=True))
        return down, across

    def resize(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize the photo to the frame's scale, without padding.

        Args:
            photo: (H, W, 3) uint8, of this frame's `original_size`.

        Returns:
            (h, w, 3) uint8, bit-equal to torchvision's resize of the PIL picture.
        """
        from PIL import Image  # noqa: PLC0415 - loaded by the first photo, not by the import

        self._require_own(photo)
        height, width = self.resized_size
        return np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))

    def image(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The encoder's input: the resized photo, padded at the bottom and right with the pixel mean.

        A photo that is stretched is resized in float, as in SAM 2's reference (sam2/utils/transforms.py); for
        EfficientSAM without antialiasing, as torch's `interpolate` does.

        Args:
            photo: (H, W, 3) uint8 RGB, of this frame's `original_size`.

        Returns:
            (1, 3, H, W) float32 RGB in 0..255, not normalized; H and W are the frame's, or half of them where the
            model takes photos so.
        """
        if self.conventions.image_stride > 1:
            size, whole = image_size(self.size, self.conventions), replace(self.conventions, image_stride=1)
            return Frame(size, self.original_size, whole).image(photo)
        if self.conventions.stretched:
            return self._stretched_image(photo) if self.conventions.antialiased else self._aliased_image(photo)
        height, width = self.resized_size
        image = np.empty((1, 3, *self.size), np.float32)
        image[:] = np.array(PIXEL_MEAN, np.float32).reshape(1, 3, 1, 1)
        image[0, :, :height, :width] = self.resize(photo).transpose(2, 0, 1)
        return image

    def _stretched_image(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        from PIL import Image  # noqa: PLC0415 - loaded by the first photo, not by the import

        self._require_own(photo)
        height, width = self.size
        planes = [Image.fromarray(photo[:, :, channel].astype(np.float32)) for channel in range(3)]
        resized = [np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes]
        image: npt.NDArray[np.float32] = np.stack(resized)[None]
        return image

    def _aliased_image(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self._require_own(photo)
        planes = np.ascontiguousarray(photo.transpose(2, 0, 1)).astype(np.float32)
        for axis, size in ((1, self.size.height), (2, self.size.width)):
            lower, upper, weight = bilinear_weights(planes.shape[axis], size)
            weight = weight.reshape(1, -1, 1) if axis == 1 else weight
            planes = planes.take(lower, axis) * (1 - weight) + planes.take(upper, axis) * weight
        return planes[None]

    def _require_own(self, photo: npt.NDArray[np.uint8]) -> None:
        if photo.shape != (*self.original_size, 3) or photo.dtype != np.uint8:
            raise UsageError(
                f"a {photo.dtype} array of shape {photo.shape} is not the photo of this frame, "
                f"which is uint8 of shape {(*self.original_size, 3)}"
            )

    def to_frame(self, coords: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Scale coordinates from the photo to the frame.

        As in the reference, each axis is scaled by its own rounded size, in float64, and rounded to float32 once. Where
        the photo is stretched, the scaling is SAM 2's: in float32, divided by the photo's size and then multiplied.

        Args:
            coords: (..., 2) x, y in pixels of the photo.

        Returns:
            (..., 2) float32 x, y in pixels of the frame.
        """
        height, width = self.original_size
        new_height, new_width = self.resized_size
        if self.conventions.stretched:
            of_one = np.asarray(coords, np.float32) / np.array([width, height], np.float32)
            return np.asarray(of_one * np.array([new_width, new_height], np.float32), np.float32)
        scale = np.array([new_width / width, new_height / height])
        in_frame: npt.NDArray[np.float32] = (np.asarray(coords, np.float64) * scale).astype(np.float32)
        return in_frame


def waste_warning(model: Framed, original_size: tuple[int, int]) -> str | None:
    """A line on a photo that fills less than 70 % of its frame; None for others, and where only squares can be chosen.

    Args:
        model: the bundle's manifest.
        original_size: (H, W) of the photo, in pixels.
    """
    frame = fitting_frame(model, original_size)
    side = frame.size.side
    if frame.waste <= MUCH_WASTE or model.frames == (FrameSize.square(side),):
        return None
    height, width = original_size
    shorter = -(-side * min(original_size) // (max(original_size) * FRAME_STEP)) * FRAME_STEP
    better = (max(shorter, SMALLEST_SHORT_SIDE), side)
    advised = FrameSize(*better) if width >= height else FrameSize(*better[::-1])
    return (
        f"the photo of {width}x{height} pixels fills {1 - frame.waste:.0%} of the frame {frame.size.name}, the rest is "
        f"padding: a bundle with --frame {advised.name} as well is faster or sees more of it"
    )


def fitting_frame(model: Framed, original_size: tuple[int, int]) -> Frame:
    """How a photo lies in the frame that it wastes least of.

    Args:
        model: has the frames to choose from; of equals the one with the larger scale, then the first.
        original_size: (H, W) of the photo, in pixels.

    Raises:
        PhotoError: the photo is empty, or too narrow for a frame.
    """
    fitted = [Frame(size, original_size, model.conventions) for size in model.frames]
    return min(fitted, key=lambda frame: (frame.waste, -max(frame.resized_size)))
