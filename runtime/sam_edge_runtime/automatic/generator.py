"""Automatic mask generation with the interface of `segment_anything.SamAutomaticMaskGenerator`.

A grid of points prompts the model, and each point gives three masks. Masks with a high predicted IoU and stability
score stay; non-maximum suppression removes duplicates. Arguments, defaults and record keys are those of
segment_anything 1.0 (automatic_mask_generator.py), and so are the masks for the same network. The differences:

- Masks stay at low resolution until all filters have passed; stability and boxes are computed there
  (mask_statistics.py).
- The remaining masks become run lengths directly. A full-size mask exists only if `output_mode` is `binary_mask`.
- The next photo or crop is encoded while this one is decoded.
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

from sam_edge_runtime.arrays import Features, Float32, Float64, Int64, Mask, Photo
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD, Label
from sam_edge_runtime.decoding import (
    Capacity,
    decode_prompts,
    limited,
    require_finite_features,
    require_finite_masks,
    select_masks,
)
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.check import check_image
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.predictor import SamPredictor
from sam_edge_runtime.prompts import Prompts, build_prompts

from . import rle
from .grids import Crop, generate_crops
from .mask_statistics import MaskStatistics
from .nms import nms
from .regions import bounding_box, count_pixels_within, remove_small_regions, xywh
from .settings import COCO_RLE, UNCOMPRESSED_RLE, AutomaticSettings

# Pixels. A box this near to a crop's edge counts as cut off (utils/amg.py, `is_box_near_crop_edge`).
CROP_EDGE_DISTANCE = 20


@dataclass(frozen=True, eq=False)
class _Candidates:
    """K candidate masks of one crop.

    Attributes:
        low_res: (K, H/4, W/4) logits.
        predicted_iou, stability: (K).
        points: (K, 2) x, y of the prompt, in pixels of the crop.
        boxes: (K, 4) x0, y0, x1, y1 in pixels of the crop.
    """

    low_res: Float32
    predicted_iou: Float32
    stability: Float32
    points: Float64
    boxes: Int64

    def take(self, chosen: npt.NDArray[Any]) -> _Candidates:
        """Those with the given indices, or where a bool array (K) is true."""
        return _Candidates(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def none(cls, cells: tuple[int, int]) -> _Candidates:
        """No candidates; `cells` is (H/4, W/4)."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, *cells), np.float32), empty, empty, np.zeros((0, 2)), np.zeros((0, 4), np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[_Candidates]) -> _Candidates:
        """The candidates of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class _CropJob:
    """A crop to search.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        covered: (H, W) bool, where no masks are wanted; None: nowhere.
        crop: a part of the photo.
        is_last: whether it is the photo's last crop.
    """

    photo: Photo
    covered: Mask | None
    crop: Crop
    is_last: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        height, width = self.photo.shape[:2]
        return height, width

    def uncovered(self, points: Float64) -> Float64:
        """Those of the points (N, 2), x, y in pixels of the crop, that do not lie where `covered` is true."""
        if self.covered is None:
            return points
        x, y = (points + self.crop.box[:2]).astype(np.int64).T
        height, width = self.size
        kept: Float64 = points[~self.covered[np.minimum(y, height - 1), np.minimum(x, width - 1)]]
        return kept


@dataclass(frozen=True, eq=False)
class _CropResult:
    """The masks found in a crop, and their geometry."""

    crop: Crop
    statistics: MaskStatistics
    candidates: _Candidates


class AutomaticMaskGenerator:
    """Generates masks for everything in a photo.

    It has the arguments, records and masks of `segment_anything.SamAutomaticMaskGenerator`, and needs no torch:

        generator = AutomaticMaskGenerator("bundle", points_per_side=16)
        records = generator.generate(read_photo("photo.jpg"))

    Args:
        model: a predictor, an open bundle, or the path of a bundle.
        settings: settings in one object, instead of keywords.
        keywords: fields of `AutomaticSettings`, such as `points_per_side`. A field that is not given has the default
            for the bundle's variant: SAM's own default, or for `nano` a lower threshold that fits its scores.

    Attributes:
        settings: settings in effect.
        predictor: the predictor that it was made with; None after `from_backend`.

    Raises:
        UsageError: both `settings` and keywords are given, a keyword is unknown, or a value is out of range.
        BundleError: the path is no bundle, or the bundle was changed after its export.
        BackendError: the bundle's engine is not installed or rejects the model.
    """

    predictor: SamPredictor | None = None

    def __init__(
        self, model: SamPredictor | Bundle | str | Path, settings: AutomaticSettings | None = None, **keywords: Any
    ) -> None:
        predictor = model if isinstance(model, SamPredictor) else SamPredictor(model)
        if settings is not None and keywords:
            raise UsageError(f"settings and {', '.join(keywords)} are both given: give settings or keywords")
        self.predictor = predictor
        manifest = predictor.bundle.manifest
        self._prepare(
            predictor.backend, manifest, settings or AutomaticSettings.for_variant(manifest.variant, **keywords)
        )

    @classmethod
    def from_backend(cls, backend: Backend, capacity: Capacity, settings: AutomaticSettings) -> AutomaticMaskGenerator:
        """A generator for an engine without a bundle, such as a torch model.

        Args:
            backend: encodes photos and decodes prompts.
            capacity: the prompts that its decoder takes.
            settings: how a photo is searched.

        Raises:
            UsageError: `use_m2m` for a model without mask prompts.
        """
        generator = cls.__new__(cls)
        generator._prepare(backend, capacity, settings)
        return generator

    def _prepare(self, backend: Backend, capacity: Capacity, settings: AutomaticSettings) -> None:
        if settings.use_m2m and not capacity.conventions.mask_prompts:
            raise UsageError("use_m2m refines masks by mask prompts, which this model does not take: leave it out")
        self.settings = settings
        self._backend, self._capacity, self._grids = backend, capacity, settings.grids()

    def generate(self, image: Photo, covered: Mask | None = None) -> list[dict[str, Any]]:
        """Generate the masks of one photo.

        Args:
            image: (H, W, 3) uint8 RGB.
            covered: (H, W) bool, true where masks are known already. No point is placed there, and masks with more
                than half of their pixels there are left out.

        Returns:
            A record for each mask, by descending predicted IoU. With crops, masks of smaller crops come first; with
            `min_mask_region_area`, masks that it leaves unchanged come first. The keys:

            - `segmentation`: (H, W) bool, or with `output_mode` an RLE: `size` [H, W] and `counts`;
            - `area`: pixels inside;
            - `bbox`: [x, y, width, height] in pixels, where width is last minus first column, as in the reference;
            - `predicted_iou`: the model's estimate of the mask's IoU;
            - `point_coords`: [[x, y]] of the point that prompted the mask, in pixels;
            - `stability_score`: IoU of the mask at a higher and at a lower threshold, 0 to 1;
            - `crop_box`: [x, y, width, height] of the crop that the mask was found in, in pixels.

        Raises:
            PhotoError: `image` is not such an array, is empty, or is too narrow for the model's input.
            UsageError: `covered` is not bool of the photo's size.
            BackendError: the engine failed.
        """
        return next(self.generate_many([image], [covered]))

    def generate_many(
        self, images: Iterable[Photo], covered: Iterable[Mask | None] = repeat(None)
    ) -> Iterator[list[dict[str, Any]]]:
        """Generate the masks of several photos; faster than one by one, as the next is encoded while one is decoded.

        Args:
            images: photos, as `generate` takes them.
            covered: for each photo, as `generate` takes it.

        Yields:
            For each photo, in order, what `generate` returns.

        Raises:
            PhotoError, UsageError, BackendError: as `generate`.
        """
        with ThreadPoolExecutor(1, "sam-edge-encoder") as encoder:
            jobs = self._jobs(zip(images, covered, strict=False))
            job = next(jobs, None)
            encoded = None if job is None else encoder.submit(self._encode, job)
            results: list[_CropResult] = []
            while job is not None and encoded is not None:
                frame, features = encoded.result()
                following = next(jobs, None)
                encoded = None if following is None else encoder.submit(self._encode, following)
                results.append(self._search(job, frame, features))
                if job.is_last:
                    yield self._records(results, job)
                    results = []
                job = following

    def check(self, image: Photo) -> None:
        """Refuse a photo that `generate` would refuse, without running the model.

        Raises:
            PhotoError: `image` is not a uint8 array (H, W, 3), is empty, or it or one of its crops is too narrow.
        """
        check_image(image)
        for crop in self._crops(image):
            fitting_frame(self._capacity, crop.size)

    def low_res_masks(self, image: Photo) -> tuple[Float32, Frame]:
        """Low-resolution masks of the whole photo, without crops.

        Returns:
            Logits (K, H/4, W/4) by descending predicted IoU, and how the photo lies in the frame.

        Raises:
            PhotoError, BackendError: as `generate`.
        """
        job = next(self._jobs([(image, None)]))
        frame, features = self._encode(job)
        return self._search(job, frame, features).candidates.low_res, frame

    def _jobs(self, images: Iterable[tuple[Photo, Mask | None]]) -> Iterator[_CropJob]:
        for photo, covered in images:
            self.check(photo)
            size = photo.shape[:2]
            if covered is not None and (covered.shape != size or covered.dtype != np.bool_):
                raise UsageError(
                    f"covered is a {covered.dtype} array of shape {covered.shape}: give bool of shape {size}"
                )
            crops = self._crops(photo)
            for crop in crops:
                yield _CropJob(photo, covered, crop, crop is crops[-1])

    def _crops(self, photo: Photo) -> tuple[Crop, ...]:
        height, width = photo.shape[:2]
        return generate_crops((height, width), self.settings.crop_n_layers, self.settings.crop_overlap_ratio)

    def _encode(self, job: _CropJob) -> tuple[Frame, Features]:
        frame = fitting_frame(self._capacity, job.crop.size)
        features = self._backend.encode(frame.image(job.crop.cut(job.photo)))
        require_finite_features(features)
        return frame, features

    def _search(self, job: _CropJob, frame: Frame, features: Features) -> _CropResult:
        """The masks of a crop after all filters, by descending predicted IoU."""
        height, width = job.crop.size
        points = job.uncovered(self._grids[job.crop.layer] * (width, height))
        statistics = MaskStatistics(frame)
        parts = []
        for start in range(0, len(points), self.settings.points_per_batch):
            batch = points[start : start + self.settings.points_per_batch]
            parts.append(self._candidates(batch, frame, statistics, features, job))
        candidates = _Candidates.concatenate(parts) if parts else _Candidates.none(frame.size.cells)
        kept = nms(candidates.boxes, candidates.predicted_iou, self.settings.box_nms_thresh)
        return _CropResult(job.crop, statistics, candidates.take(kept))

    def _candidates(
        self, points: Float64, frame: Frame, statistics: MaskStatistics, features: Features, job: _CropJob
    ) -> _Candidates:
        """The masks of a batch of points (N, 2) that pass the filters of predicted IoU, stability and crop edges."""
        settings = self.settings
        labels = np.full((len(points), 1), int(Label.FOREGROUND))
        prompts = build_prompts(frame, points[:, None], labels, None, None)
        several, scores = self._masks(features, prompts, multimask=settings.multimask_output)
        low_res, iou = several.reshape(-1, *several.shape[2:]), scores.ravel()
        points = points.repeat(several.shape[1], axis=0)
        if settings.use_m2m:
            low_res, iou = self._refined(features, frame, points, low_res)
        if settings.pred_iou_thresh > 0:
            kept = iou > settings.pred_iou_thresh
            low_res, iou, points = low_res[kept], iou[kept], points[kept]
        least = settings.stability_score_thresh
        stability = statistics.stability(low_res, MASK_THRESHOLD, settings.stability_score_offset, least)
        if least > 0:
            kept = stability >= least
            low_res, iou, points, stability = low_res[kept], iou[kept], points[kept], stability[kept]
        boxes = statistics.boxes(low_res, MASK_THRESHOLD)
        return _Candidates(low_res, iou, stability, points, boxes).take(~_near_crop_edge(boxes, job))

    def _masks(self, features: Features, prompts: Prompts, *, multimask: bool) -> tuple[Float32, Float32]:
        """Logits (B, M, H/4, W/4) and predicted IoU (B, M) of the masks that a user would get."""
        decoded = decode_prompts(self._backend, self._capacity, features, prompts)
        require_finite_masks(decoded)
        return select_masks(decoded, self._capacity.conventions, multimask=multimask)

    def _refined(self, features: Features, frame: Frame, points: Float64, low_res: Float32) -> tuple[Float32, Float32]:
        """Logits (K, H/4, W/4) and predicted IoU (K) of a prompt for each mask: its point (K, 2), and itself.

        As `refine_with_m2m` of SAM 2's generator.
        """
        logits = limited(low_res, self._capacity.conventions)
        labels = np.full((len(points), 1), int(Label.FOREGROUND))
        prompts = build_prompts(frame, points[:, None], labels, None, logits[:, None])
        masks, iou = self._masks(features, prompts, multimask=False)
        return masks[:, 0], iou[:, 0]

    def _records(self, results: Sequence[_CropResult], last: _CropJob) -> list[dict[str, Any]]:
        """The records of a photo from the results of all its crops."""
        settings, size = self.settings, last.size
        rows = [(result, row) for result in results for row in range(len(result.candidates.boxes))]
        boxes = np.concatenate([result.candidates.boxes + np.tile(result.crop.box[:2], 2) for result in results])
        if len(results) > 1:  # masks of smaller crops are finer
            scores = np.array([1 / np.prod(result.crop.size) for result, _ in rows], np.float32)
            kept = nms(boxes, scores, settings.crop_nms_thresh)
            rows, boxes = [rows[index] for index in kept], boxes[kept]
        runs = [
            result.statistics.run_lengths(result.candidates.low_res[row], MASK_THRESHOLD, result.crop.box[:2], size)
            for result, row in rows
        ]
        if settings.min_mask_region_area and runs:
            cleaned = [remove_small_regions(each, size[0], settings.min_mask_region_area) for each in runs]
            runs = [lengths for lengths, _ in cleaned]
            boxes = np.array([bounding_box(lengths, size[0]) for lengths in runs])
            unchanged = np.array([not changed for _, changed in cleaned], np.float32)
            kept = nms(boxes, unchanged, max(settings.box_nms_thresh, settings.crop_nms_thresh))
            rows, runs, boxes = [rows[index] for index in kept], [runs[index] for index in kept], boxes[kept]
        left_out = np.zeros(len(runs), np.bool_) if last.covered is None else _mostly_covered(runs, last.covered)
        return [
            {
                "segmentation": self._segmentation(lengths, size),
                "area": int(lengths[1::2].sum()),
                "bbox": xywh(box),
                "predicted_iou": float(result.candidates.predicted_iou[row]),
                "point_coords": [(result.candidates.points[row] + result.crop.box[:2]).tolist()],
                "stability_score": float(result.candidates.stability[row]),
                "crop_box": xywh(result.crop.box),
            }
            for (result, row), lengths, box, skip in zip(rows, runs, boxes, left_out, strict=True)
            if not skip
        ]

    def _segmentation(self, lengths: rle.Counts, size: tuple[int, int]) -> Any:
        if self.settings.output_mode == COCO_RLE:
            return {"size": list(size), "counts": rle.compress(lengths)}
        uncompressed: rle.UncompressedRle = {"size": list(size), "counts": lengths.tolist()}
        return uncompressed if self.settings.output_mode == UNCOMPRESSED_RLE else rle.decode(uncompressed)


def _mostly_covered(runs: Sequence[rle.Counts], covered: Mask) -> npt.NDArray[np.bool_]:
    """Whether each mask has more than half of its pixels where `covered` is true."""
    within = count_pixels_within(runs, covered)
    return np.array([2 * common > lengths[1::2].sum() for common, lengths in zip(within, runs, strict=True)], np.bool_)


def _near_crop_edge(boxes: Int64, job: _CropJob) -> npt.NDArray[np.bool_]:
    """Whether each box (K) ends near an edge of the crop that is not an edge of the photo."""
    height, width = job.size
    in_photo = boxes + np.tile(job.crop.box[:2], 2)
    at_crop = np.abs(in_photo - np.array(job.crop.box)) <= CROP_EDGE_DISTANCE
    at_photo = np.abs(in_photo - np.array([0, 0, width, height])) <= CROP_EDGE_DISTANCE
    near: npt.NDArray[np.bool_] = (at_crop & ~at_photo).any(axis=1)
    return near
