"""A sample to the square frame that the encoder takes.

`letterbox`, for evaluation, is the runtime's own frame: longest side S, nothing else changed. `augment`, for training:

1. Large-scale jitter (arXiv 2012.07177, appendix: resize by a random factor, then crop or pad to a fixed square). The
   factor multiplies the letterbox's scale. Its logarithm is uniform, so that halving is as likely as doubling. A photo
   smaller than the frame lies at the top left, as in the runtime; of a larger one a random part is cut out.
2. A horizontal flip.
3. Colour: brightness, contrast and saturation, in this order, each by a random factor, with Pillow's ImageEnhance.

Photo and masks share one geometry. The photo is resized by Pillow's antialiased bilinear filter, as in the runtime, and
masks by the nearest pixel. Masks with too few pixels left are dropped. A crop without any mask is drawn again. Only
masks whose box meets the crop are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.bundle.contract import MASK_STRIDE, PIXEL_MEAN, FrameSize
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import Frame

from .sample import Masks, Sample

CROP_ATTEMPTS = 8
SMALLEST_SIDE = 16  # pixels of the frame: one cell of the embedding


@dataclass(frozen=True)
class Augmentation:
    """How training photos are varied.

    Attributes:
        side: side S of the frame in pixels.
        scale: smallest and largest factor of the jitter, times the scale at which the photo's longest side is S.
        flip: probability of a horizontal flip.
        brightness: largest change b; the factor is uniform in 1 - b .. 1 + b.
        contrast: the same for the difference to the photo's mean grey.
        saturation: the same for the difference to the greyscale photo.
        min_pixels: a mask with fewer pixels in the frame is dropped. Default: one pixel of the decoder's masks.
        most_masks: largest number of masks, chosen at random; None keeps all.
        paste: probability that objects of another photo are pasted onto it (`copy_paste`).

    Raises:
        UsageError: a number out of range.
    """

    side: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    min_pixels: int = MASK_STRIDE**2
    most_masks: int | None = 64
    paste: float = 0.0

    def __post_init__(self) -> None:
        if self.side < SMALLEST_SIDE:
            raise UsageError(f"a frame of side {self.side} is too small: use {SMALLEST_SIDE} or more")
        low, high = self.scale
        if not 0 < low <= high < np.inf:
            raise UsageError(f"a scale from {low} to {high} is not a range: use 0.5 to 2, for example")
        for name in ("flip", "brightness", "contrast", "saturation", "paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)} is out of range: use 0 to 1")
        for name in ("min_pixels", "most_masks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} is too small: use 1 or more")


@dataclass(frozen=True, eq=False)
class Crop:
    """A frame and its masks.

    Attributes:
        image: (3, S, S) float32 RGB in 0..255, not normalized, padded at the bottom and right with the pixel mean.
        masks: (M, S, S) bool, false on the padding.
        which: (M) int64, each mask's index in the sample; -1 for an object pasted from another.
        size: (h, w) of the photo's part of the frame, from the top left.
        source: as in `Sample`.
        key: as in `Sample`.
    """

    image: Float32
    masks: Masks
    which: npt.NDArray[np.int64]
    size: tuple[int, int]
    source: str
    key: str

    def valid(self) -> npt.NDArray[np.bool_]:
        """(S, S) bool, true where the frame shows the photo, false on the padding."""
        inside = np.zeros(self.image.shape[1:], np.bool_)
        inside[: self.size[0], : self.size[1]] = True
        return inside


@dataclass(frozen=True)
class _View:
    """A part of a resized photo.

    A photo of size `original` (H, W) is resized to `resized`; the view is `size` (h, w) pixels from `corner` (y, x).
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]
    flipped: bool

    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the view, in pixels of the original."""
        (top, bottom), (left, right) = (self._span(axis) for axis in (0, 1))
        return left, top, right, bottom

    def _span(self, axis: int) -> tuple[float, float]:
        step = self.original[axis] / self.resized[axis]
        begin = self.corner[axis] * step
        return begin, min((self.corner[axis] + self.size[axis]) * step, float(self.original[axis]))

    def photo(self, photo: Photo) -> Photo:
        """The view of the photo, (h, w, 3): the same as resizing all of it and then cropping."""
        from PIL import Image  # noqa: PLC0415

        height, width = self.size
        seen = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR, self.box()))
        return seen[:, ::-1] if self.flipped else seen

    def masks(self, masks: Masks) -> Masks:
        """The view of the masks (M, H, W), as (M, h, w): each pixel is the original's pixel at its centre."""
        rows, columns = (self._nearest(axis) for axis in (0, 1))
        return masks[:, rows[:, None], columns[::-1] if self.flipped else columns]

    def _nearest(self, axis: int) -> npt.NDArray[np.int64]:
        centres = (np.arange(self.size[axis]) + self.corner[axis] + 0.5) * (self.original[axis] / self.resized[axis])
        return np.minimum(centres.astype(np.int64), self.original[axis] - 1)


def letterbox(sample: Sample, side: int) -> Crop:
    """The sample in the runtime's `Frame`, with all of its masks, also those that are empty after resizing.

    Raises:
        PhotoError: the photo is so narrow that its short side would vanish.
    """
    frame = Frame(FrameSize.square(side), sample.size)
    view = _View(sample.size, frame.resized_size, (0, 0), frame.resized_size, flipped=False)
    masks = np.zeros((len(sample.rles), side, side), np.bool_)
    height, width = view.size
    for index in range(len(masks)):  # one at a time: a hundred masks of a large photo would fill the memory
        masks[index, :height, :width] = view.masks(sample.masks([index]))[0]
    return Crop(frame.image(sample.photo)[0], masks, np.arange(len(masks)), view.size, sample.source, sample.key)


def augment(sample: Sample, options: Augmentation, rng: np.random.Generator) -> Crop:
    """A random view of the sample; the same generator state gives the same view.

    Returns:
        A crop with at most `most_masks` masks of at least `min_pixels` each. It has no mask if the sample has none, or
        if no mask was large enough in any of `CROP_ATTEMPTS` crops or in the whole photo.
    """
    boxes = sample.boxes()
    for _ in range(CROP_ATTEMPTS):
        view = _random_view(sample.size, options, rng)
        masks, which = _seen_masks(sample, boxes, view, options, rng)
        if which.size or not sample.rles:
            break
    else:
        view = _jittered(sample.size, options, 1.0, flipped=view.flipped, rng=rng)
        masks, which = _seen_masks(sample, boxes, view, options, rng)
    pixels = _jitter_colour(view.photo(sample.photo), options, rng)
    height, width = view.size
    image = np.empty((3, options.side, options.side), np.float32)
    image[:] = np.array(PIXEL_MEAN, np.float32).reshape(3, 1, 1)
    image[:, :height, :width] = pixels.transpose(2, 0, 1)
    return Crop(image, masks, which, view.size, sample.source, sample.key)


def _random_view(original: tuple[int, int], options: Augmentation, rng: np.random.Generator) -> _View:
    low, high = np.log(options.scale)
    flipped = bool(rng.random() < options.flip)
    return _jittered(original, options, float(np.exp(rng.uniform(low, high))), flipped=flipped, rng=rng)


def _jittered(
    original: tuple[int, int], options: Augmentation, factor: float, *, flipped: bool, rng: np.random.Generator
) -> _View:
    """A random part of the photo at `factor` times the letterbox's scale; at 1 it is the letterbox itself."""
    scale = factor * options.side / max(original)
    resized = (max(1, int(original[0] * scale + 0.5)), max(1, int(original[1] * scale + 0.5)))
    size = (min(resized[0], options.side), min(resized[1], options.side))
    corner = (int(rng.integers(resized[0] - size[0] + 1)), int(rng.integers(resized[1] - size[1] + 1)))
    return _View(original, resized, corner, size, flipped)


def _seen_masks(
    sample: Sample, boxes: npt.NDArray[np.float64], view: _View, options: Augmentation, rng: np.random.Generator
) -> tuple[Masks, npt.NDArray[np.int64]]:
    """The masks (M, S, S) that are large enough in this view, and their indices, in random order up to the bound."""
    left, top, right, bottom = view.box()
    meets = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)
    height, width = view.size
    masks: list[Masks] = []
    which: list[int] = []
    for index in rng.permutation(np.flatnonzero(meets)).tolist():
        if len(which) == options.most_masks:
            break
        seen = view.masks(sample.masks([index]))[0]
        if np.count_nonzero(seen) >= options.min_pixels:
            framed = np.zeros((options.side, options.side), np.bool_)
            framed[:height, :width] = seen
            masks.append(framed)
            which.append(index)
    stacked = np.stack(masks) if masks else np.zeros((0, options.side, options.side), np.bool_)
    return stacked, np.array(which, np.int64)


def _jitter_colour(pixels: Photo, options: Augmentation, rng: np.random.Generator) -> Photo:
    """The photo (h, w, 3) with other brightness, contrast and saturation."""
    from PIL import Image, ImageEnhance  # noqa: PLC0415

    factors = rng.uniform(-1, 1, 3) * (options.brightness, options.contrast, options.saturation) + 1
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors.tolist(), strict=True
    ):
        if factor != 1:
            picture = enhance(picture).enhance(factor)
    return np.asarray(picture)
