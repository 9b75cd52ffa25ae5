"""Masks for everything in a photo, with the face of `segment_anything.SamAutomaticMaskGenerator`.

A grid of clicks is asked, each for three masks; those stay that the model is sure of, that hold still under another
threshold, and that are no second copy of a better one. Arguments, defaults and record keys are those of
segment_anything 1.0 (automatic_mask_generator.py); the masks are the same for the same network. What differs is how:

- A candidate stays a low-resolution mask until the last one that could displace it is known. Stability and box are
  counted where the threshold's line runs and nowhere else (crossings.py).
- What is left becomes run lengths straight from there; a full-size mask exists only where `binary_mask` asks for it.
- The next photo, or crop, is encoded while this one is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Float64, Int64, Mask, Photo
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, MASK_STRIDE, MASK_THRESHOLD, Label
from sam_edge_runtime.decoding import Capacity, decode_prompts
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.predictor import SamPredictor, check_image
from sam_edge_runtime.prompts import build_prompts

from . import rle
from .grids import Crop, crops_of
from .mask_statistics import MaskStatistics
from .nms import suppress
from .regions import box_of, pixels_within, without_small_regions, xywh
from .settings import COCO_RLE, UNCOMPRESSED_RLE, AutomaticSettings

MULTIMASK_OUTPUTS = MASK_OUTPUTS - 1  # whole, part, subpart
# Pixels from a crop's edge within which a box counts as cut off there (utils/amg.py, `is_box_near_crop_edge`).
EDGE = 20


@dataclass(frozen=True, eq=False)
class _Candidates:
    """K masks of one crop.

    Attributes:
        low_res: (K, S/4, S/4) logits.
        predicted_iou, stability: (K).
        points: (K, 2) x, y of the click, in pixels of the crop.
        boxes: (K, 4) x0, y0, x1, y1 in pixels of the crop.
    """

    low_res: Float32
    predicted_iou: Float32
    stability: Float32
    points: Float64
    boxes: Int64

    def take(self, chosen: npt.NDArray[Any]) -> _Candidates:
        """Some of them, by number or by truth."""
        return _Candidates(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def none(cls, cells: int) -> _Candidates:
        """No candidates."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, cells, cells), np.float32), empty, empty, np.zeros((0, 2)), np.zeros((0, 4), np.int64))

    @classmethod
    def joined(cls, parts: Sequence[_Candidates]) -> _Candidates:
        """One group after another."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class _View:
    """A crop that is to be searched, and whether it is its photo's last."""

    photo: Photo
    covered: Mask | None
    crop: Crop
    is_last: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        height, width = self.photo.shape[:2]
        return height, width

    def free(self, points: Float64) -> Float64:
        """Those of the points (N, 2), in pixels of the crop, that lie where nothing is covered."""
        if self.covered is None:
            return points
        x, y = (points + self.crop.box[:2]).astype(np.int64).T
        height, width = self.size
        free: Float64 = points[~self.covered[np.minimum(y, height - 1), np.minimum(x, width - 1)]]
        return free


@dataclass(frozen=True, eq=False)
class _Part:
    """What a crop came to."""

    crop: Crop
    crossings: MaskStatistics
    candidates: _Candidates


class AutomaticMaskGenerator:
    """Finds everything in photos.

    `AutomaticMaskGenerator("bundle", points_per_side=16)` takes the reference's keywords as they are. Those that are
    not given suit the model: the reference's defaults, which were chosen for SAM with ViT-H, and others for `nano`.

    Args:
        model: a predictor, an opened bundle, or the path of one.
        settings: how, instead of the keywords.
    """

    def __init__(
        self, model: SamPredictor | Bundle | str | Path, settings: AutomaticSettings | None = None, **keywords: Any
    ) -> None:
        predictor = model if isinstance(model, SamPredictor) else SamPredictor(model)
        if settings is not None and keywords:
            raise UsageError(f"{', '.join(keywords)} came beside settings: give one or the other")
        manifest = predictor.bundle.manifest
        self._prepare(predictor.backend, manifest, settings or AutomaticSettings.suited(manifest.variant, **keywords))

    @classmethod
    def on(cls, backend: Backend, capacity: Capacity, settings: AutomaticSettings) -> AutomaticMaskGenerator:
        """One for an engine without a bundle, such as a live torch model.

        Args:
            backend: encodes and decodes.
            capacity: what its decoder takes.
            settings: how a photo is searched.
        """
        generator = cls.__new__(cls)
        generator._prepare(backend, capacity, settings)
        return generator

    def _prepare(self, backend: Backend, capacity: Capacity, settings: AutomaticSettings) -> None:
        self.settings = settings
        self._backend, self._capacity, self._grids = backend, capacity, settings.grids()

    def generate(self, image: Photo, covered: Mask | None = None) -> list[dict[str, Any]]:
        """Masks of one photo, the surest first.

        Args:
            image: (H, W, 3) uint8 RGB.
            covered: (H, W) bool, where masks are known already: nothing is clicked there, and what lies there with
                more than half of its pixels is left out.

        Returns:
            A record for each mask: `segmentation` ((H, W) bool, or an RLE by `output_mode`), `area` in pixels, `bbox`
            x, y, width and height (from first to last pixel, as the reference counts), `predicted_iou`,
            `point_coords` [[x, y]], `stability_score`, `crop_box` x, y, width, height.

        Raises:
            PhotoError: `image` is not such an array, is empty, or far too narrow.
            UsageError: `covered` is not of the photo's size.
            BackendError: the engine failed.
        """
        return next(self.generate_many([image], [covered]))

    def generate_many(
        self, images: Iterable[Photo], covered: Iterable[Mask | None] = repeat(None)
    ) -> Iterator[list[dict[str, Any]]]:
        """Masks of photo after photo, and what is covered in each, as `generate` takes and gives them.

        The next photo is encoded while one is decoded.
        """
        with ThreadPoolExecutor(1, "sam-edge-encoder") as encoder:
            views = self._views(zip(images, covered, strict=False))
            view = next(views, None)
            encoded = None if view is None else encoder.submit(self._encode, view)
            parts: list[_Part] = []
            while view is not None and encoded is not None:
                frame, embeddings = encoded.result()
                following = next(views, None)
                encoded = None if following is None else encoder.submit(self._encode, following)
                parts.append(self._part(view, frame, embeddings))
                if view.is_last:
                    yield self._records(parts, view)
                    parts = []
                view = following

    def check(self, image: Photo) -> None:
        """Refuse a photo that cannot be searched, before it is put among others.

        Raises:
            PhotoError: `image` is no uint8 array (H, W, 3), is empty, or it or a crop of it is far too narrow.
        """
        check_image(image)
        for crop in self._crops(image):
            Frame(self._capacity.input_side, crop.size)

    def low_res_masks(self, image: Photo) -> tuple[Float32, Frame]:
        """The low-resolution masks (K, S/4, S/4) that a photo as a whole comes to, the surest first, and its frame.

        Raises:
            PhotoError, BackendError: as `generate`.
        """
        view = next(self._views([(image, None)]))
        frame, embeddings = self._encode(view)
        return self._part(view, frame, embeddings).candidates.low_res, frame

    def _views(self, images: Iterable[tuple[Photo, Mask | None]]) -> Iterator[_View]:
        for photo, covered in images:
            self.check(photo)
            size = photo.shape[:2]
            if covered is not None and (covered.shape != size or covered.dtype != np.bool_):
                raise UsageError(
                    f"covered is a {covered.dtype} array of shape {covered.shape}: give bool of shape {size}"
                )
            crops = self._crops(photo)
            for crop in crops:
                yield _View(photo, covered, crop, crop is crops[-1])

    def _crops(self, photo: Photo) -> tuple[Crop, ...]:
        height, width = photo.shape[:2]
        return crops_of((height, width), self.settings.crop_n_layers, self.settings.crop_overlap_ratio)

    def _encode(self, view: _View) -> tuple[Frame, Float32]:
        frame = Frame(self._capacity.input_side, view.crop.size)
        return frame, self._backend.encode(frame.image(view.crop.of(view.photo)))

    def _part(self, view: _View, frame: Frame, embeddings: Float32) -> _Part:
        """What a crop's clicks find, without the copies among it, the surest first."""
        height, width = view.crop.size
        points = view.free(self._grids[view.crop.layer] * (width, height))
        crossings = MaskStatistics(frame)
        parts = []
        for start in range(0, len(points), self.settings.points_per_batch):
            some = points[start : start + self.settings.points_per_batch]
            parts.append(self._asked(some, frame, crossings, embeddings, view))
        found = _Candidates.joined(parts) if parts else _Candidates.none(self._capacity.input_side // MASK_STRIDE)
        kept = suppress(found.boxes, found.predicted_iou, self.settings.box_nms_thresh)
        return _Part(view.crop, crossings, found.take(kept))

    def _asked(
        self, points: Float64, frame: Frame, crossings: MaskStatistics, embeddings: Float32, view: _View
    ) -> _Candidates:
        """What some clicks find and the filters leave."""
        settings = self.settings
        labels = np.full((len(points), 1), int(Label.FOREGROUND))
        prompts = build_prompts(frame, points[:, None], labels, None, None)
        four, four_ious = decode_prompts(self._backend, self._capacity, embeddings, prompts)
        low_res, iou = four[:, 1:].reshape(-1, *four.shape[2:]), four_ious[:, 1:].ravel()
        clicks = points.repeat(MULTIMASK_OUTPUTS, axis=0)
        if settings.pred_iou_thresh > 0:
            sure = iou > settings.pred_iou_thresh
            low_res, iou, clicks = low_res[sure], iou[sure], clicks[sure]
        least = settings.stability_score_thresh
        stability = crossings.stability(low_res, MASK_THRESHOLD, settings.stability_score_offset, least)
        if least > 0:
            stable = stability >= least
            low_res, iou, clicks, stability = low_res[stable], iou[stable], clicks[stable], stability[stable]
        boxes = crossings.boxes(low_res, MASK_THRESHOLD)
        found = _Candidates(low_res, iou, stability, clicks, boxes)
        return found.take(~_cut_off(boxes, view))

    def _records(self, parts: Sequence[_Part], view: _View) -> list[dict[str, Any]]:
        """The records of a photo whose crops are all done."""
        settings, size = self.settings, view.size
        places = [(part, row) for part in parts for row in range(len(part.candidates.boxes))]
        boxes = np.concatenate([part.candidates.boxes + np.tile(part.crop.box[:2], 2) for part in parts])
        if len(parts) > 1:  # masks of smaller crops are finer
            scores = np.array([1 / np.prod(part.crop.size) for part, _ in places], np.float32)
            kept = suppress(boxes, scores, settings.crop_nms_thresh)
            places, boxes = [places[index] for index in kept], boxes[kept]
        runs = [
            part.crossings.run_lengths(part.candidates.low_res[row], MASK_THRESHOLD, part.crop.box[:2], size)
            for part, row in places
        ]
        if settings.min_mask_region_area and runs:
            mended = [without_small_regions(each, size[0], settings.min_mask_region_area) for each in runs]
            runs = [lengths for lengths, _ in mended]
            boxes = np.array([box_of(lengths, size[0]) for lengths in runs])
            unchanged = np.array([not changed for _, changed in mended], np.float32)
            kept = suppress(boxes, unchanged, max(settings.box_nms_thresh, settings.crop_nms_thresh))
            places, runs, boxes = [places[index] for index in kept], [runs[index] for index in kept], boxes[kept]
        known = np.zeros(len(runs), np.bool_) if view.covered is None else _known(runs, view.covered)
        return [
            {
                "segmentation": self._segmentation(lengths, size),
                "area": int(lengths[1::2].sum()),
                "bbox": xywh(box),
                "predicted_iou": float(part.candidates.predicted_iou[row]),
                "point_coords": [(part.candidates.points[row] + part.crop.box[:2]).tolist()],
                "stability_score": float(part.candidates.stability[row]),
                "crop_box": xywh(part.crop.box),
            }
            for (part, row), lengths, box, left_out in zip(places, runs, boxes, known, strict=True)
            if not left_out
        ]

    def _segmentation(self, lengths: rle.Counts, size: tuple[int, int]) -> Any:
        if self.settings.output_mode == COCO_RLE:
            return {"size": list(size), "counts": rle.compress(lengths)}
        plain: rle.UncompressedRle = {"size": list(size), "counts": lengths.tolist()}
        return plain if self.settings.output_mode == UNCOMPRESSED_RLE else rle.decode(plain)


def _known(runs: Sequence[rle.Counts], covered: Mask) -> npt.NDArray[np.bool_]:
    """Which masks lie with more than half of their pixels where `covered` is true."""
    within = pixels_within(runs, covered)
    return np.array([2 * common > lengths[1::2].sum() for common, lengths in zip(within, runs, strict=True)], np.bool_)


def _cut_off(boxes: Int64, view: _View) -> npt.NDArray[np.bool_]:
    """Which masks (K) end at an edge of the crop that is none of the photo."""
    height, width = view.size
    in_photo = boxes + np.tile(view.crop.box[:2], 2)
    at_crop = np.abs(in_photo - np.array(view.crop.box)) <= EDGE
    at_photo = np.abs(in_photo - np.array([0, 0, width, height])) <= EDGE
    found: npt.NDArray[np.bool_] = (at_crop & ~at_photo).any(axis=1)
    return found
