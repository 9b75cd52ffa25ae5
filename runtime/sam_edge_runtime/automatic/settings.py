"""Settings of automatic mask generation, checked when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import UsageError

from .grids import Grid, layer_grids

BINARY_MASK, UNCOMPRESSED_RLE, COCO_RLE = "binary_mask", "uncompressed_rle", "coco_rle"
OUTPUT_MODES = (BINARY_MASK, UNCOMPRESSED_RLE, COCO_RLE)

# SAM 2's generator has SAM's defaults but for this one (facebookresearch/sam2, sam2/automatic_mask_generator.py).
_SAM_2 = {"pred_iou_thresh": 0.8}
# EfficientSAM's notebooks/EfficientSAM_segment_everything_example.ipynb.
_EFFICIENT_SAM = {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.9}
# Set for nano on photos of its training data.
_NANO = {
    "pred_iou_thresh": 0.45,
    "stability_score_thresh": 0.5,
    "stability_score_offset": 0.5,
    "box_nms_thresh": 0.6,
    "min_mask_region_area": 100,
}
# Defaults for variants whose predicted IoUs and logits are on another scale than SAM's.
VARIANT_DEFAULTS: dict[str, dict[str, float]] = {
    "sam2.1_hiera_tiny": _SAM_2,
    "sam2.1_hiera_small": _SAM_2,
    "sam2.1_hiera_base_plus": _SAM_2,
    "sam2.1_hiera_large": _SAM_2,
    "edgetam": _SAM_2,
    "efficient_sam_vitt": _EFFICIENT_SAM,
    "efficient_sam_vits": _EFFICIENT_SAM,
    "nano": _NANO,
    "small": _NANO,
}

# Least and largest value of each field. More points or crops than these take days and gigabytes.
_SHARES = {
    "pred_iou_thresh": (0, 1),
    "stability_score_thresh": (0, 1),
    "box_nms_thresh": (0, 1),
    "crop_nms_thresh": (0, 1),
    "crop_overlap_ratio": (0, 1),
    "stability_score_offset": (0, 1e6),
}
_COUNTS = {
    "points_per_side": (1, 1024),
    "points_per_batch": (1, 1024),
    "crop_n_layers": (0, 6),
    "crop_n_points_downscale_factor": (1, 1024),
    "min_mask_region_area": (0, 1 << 40),
}


@dataclass(frozen=True)
class AutomaticSettings:
    """Settings of automatic mask generation, with the names, defaults and meaning of segment_anything 1.0.

    `use_m2m` and `multimask_output` are those of SAM 2. The defaults of the thresholds were chosen for SAM with ViT-H.
    `for_variant` gives those that fit another model.

    Attributes:
        points_per_side: points along each side of the point grid; None if `point_grids` is given.
        points_per_batch: points whose masks are in memory at once, up to 3 each. The backend's capacity alone decides
            how many prompts one call of the decoder takes.
        pred_iou_thresh: masks stay if their predicted IoU is above it, 0 to 1; 0 keeps all.
        stability_score_thresh: masks stay if their stability score is at least this, 0 to 1; 0 keeps all.
        stability_score_offset: distance of the two thresholds of the stability score from the mask's own, in logits.
        box_nms_thresh: of two masks of a crop whose boxes overlap with an IoU above it, the one with the lower
            predicted IoU is removed.
        crop_n_layers: layers of crops besides the whole photo; layer n has 4 ** n crops.
        crop_nms_thresh: like `box_nms_thresh`, between crops; masks of smaller crops stay.
        crop_overlap_ratio: overlap of the crops of layer 1 as a share of the photo's shorter side, from 0 to below 1;
            half of it in each further layer.
        crop_n_points_downscale_factor: layer n has `points_per_side` divided by this to the power of n.
        point_grids: instead of `points_per_side`, for each layer the points (N, 2), x, y from 0 to 1.
        min_mask_region_area: holes and islands with fewer pixels are filled or removed; 0: none.
        output_mode: form of a record's `segmentation`: `binary_mask` (a bool array), `uncompressed_rle` (COCO's run
            lengths as a list) or `coco_rle` (compressed to a string, as pycocotools writes it).
        use_m2m: whether each mask is refined once, with its own logits as a mask prompt beside its point; the decoder
            then runs four times as often.
        multimask_output: whether a point gets three masks; else one.

    Raises:
        UsageError: a value is out of range, or both or neither of `points_per_side` and `point_grids` are given.
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[npt.ArrayLike] | None = None
    min_mask_region_area: int = 0
    output_mode: str = BINARY_MASK
    use_m2m: bool = False
    multimask_output: bool = True

    def __post_init__(self) -> None:
        if self.points_per_side is None and self.point_grids is None:
            raise UsageError("points_per_side and point_grids are both None: give one of them")
        if self.points_per_side is not None and self.point_grids is not None:
            raise UsageError(
                f"point_grids is given together with points_per_side {self.points_per_side}, whose default is 32: "
                "give points_per_side=None with point_grids, as segment_anything demands"
            )
        for name, (least, most) in _SHARES.items():
            _check_number(name, getattr(self, name), least, most)
        for name, (fewest, largest) in _COUNTS.items():
            if name != "points_per_side" or self.points_per_side is not None:
                _check_integer(name, getattr(self, name), fewest, largest)
        if self.crop_overlap_ratio == 1:
            raise UsageError("crop_overlap_ratio 1 is out of range: use 0 to below 1")
        if not isinstance(self.output_mode, str) or self.output_mode not in OUTPUT_MODES:
            raise UsageError(f"output_mode {self.output_mode!r:.60} is not one of {', '.join(OUTPUT_MODES)}")
        for name in ("use_m2m", "multimask_output"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise UsageError(f"{name} {getattr(self, name)!r:.60} is neither True nor False")
        self.grids()

    @classmethod
    def for_variant(cls, variant: str, **keywords: Any) -> AutomaticSettings:
        """Settings with the defaults of a model variant.

        Args:
            variant: of the model, such as `tiny_vit`. Those of `VARIANT_DEFAULTS` have their own; others have SAM's.
            keywords: fields that replace the defaults.

        Raises:
            UsageError: a field is unknown, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                raise UsageError(f"there is no setting {name!r}: choose one of {', '.join(known)}")
        return cls(**{**VARIANT_DEFAULTS.get(variant, {}), **keywords})

    def grids(self) -> tuple[Grid, ...]:
        """The points of each layer, beginning with the whole photo's: (N, 2), x, y from 0 to 1."""
        if self.points_per_side is not None:
            return layer_grids(self.points_per_side, self.crop_n_layers, self.crop_n_points_downscale_factor)
        if not isinstance(self.point_grids, Sequence | np.ndarray) or isinstance(self.point_grids, str):
            raise UsageError(f"point_grids is a {type(self.point_grids).__name__}: give one grid (N, 2) for each layer")
        grids = tuple(_checked_grid(grid, layer) for layer, grid in enumerate(self.point_grids))
        if len(grids) <= self.crop_n_layers:
            raise UsageError(
                f"{len(grids)} point_grids are too few for the photo and {self.crop_n_layers} layers of crops: give "
                "one for each"
            )
        return grids


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise UsageError(f"{name} {value!r:.60} is no number: use {least:g} to {most:g}")
    if not least <= value <= most:  # NaN too
        raise UsageError(f"{name} {value!r:.60} is out of range: use {least:g} to {most:g}")


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageError(f"{name} {value!r:.60} is no integer: use {least} to {most}")
    if not least <= value <= most:
        raise UsageError(f"{name} {value!r:.60} is out of range: use {least} to {most}")


def _checked_grid(grid: npt.ArrayLike, layer: int) -> Grid:
    try:
        points = np.asarray(grid, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"point grid {layer} is no array of numbers ({error}): give x, y pairs, (N, 2)") from error
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise UsageError(f"point grid {layer} has shape {points.shape}: give x, y pairs, (N, 2)")
    outside = ~((points >= 0) & (points <= 1)).all(axis=1)  # NaN too
    if outside.any():
        raise UsageError(f"point grid {layer} holds {points[outside][0].tolist()}: give x and y from 0 to 1")
    return points
