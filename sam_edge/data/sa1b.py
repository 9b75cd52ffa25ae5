"""SA-1B's annotation record: one JSON file beside each photo.

    {"image": {"image_id", "width", "height", "file_name"},
     "annotations": [{"id", "segmentation": COCO RLE, "bbox": XYWH, "area", "predicted_iou", "stability_score",
                      "crop_box": XYWH, "point_coords": [[x, y]]}, ...]}

(github.com/facebookresearch/segment-anything, README, "Dataset".) A record is used whole or not at all: one damaged
mask makes it broken, because a record that lies about one mask is not to be trusted on the others. The run lengths are
added up before pycocotools may decode them, which leaves what they do not cover uninitialized; areas are counted
from them, whatever the record says.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.automatic import rle as runs
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.errors import UsageError

from .skips import BrokenRecordError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """One mask of a record.

    Attributes:
        rle: the mask, compressed, of the photo's size.
        area: its pixels, counted.
        bbox: x, y, width, height in pixels, as written; None where the record has none.
        predicted_iou: the annotating model's own estimate; 1 where the record has none.
        stability_score: how little the mask changes with its threshold; 1 where the record has none.
        crop_box: x, y, width, height of the crop that the mask was found in, or None.
        point_coords: x, y of the points that prompted it; may be empty.
    """

    rle: Rle
    area: int
    bbox: Box | None = None
    predicted_iou: float = 1.0
    stability_score: float = 1.0
    crop_box: Box | None = None
    point_coords: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Record:
    """What a JSON file says of a photo of `size` (H, W)."""

    size: tuple[int, int]
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class MaskFilter:
    """Which masks of a record are wanted. Empty masks never are.

    Attributes:
        min_area: smallest share of the photo that a mask covers.
        min_predicted_iou: smallest `predicted_iou`.
        min_stability: smallest `stability_score`.

    Raises:
        UsageError: a bound outside 0..1.
    """

    min_area: float = 0.0
    min_predicted_iou: float = 0.0
    min_stability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_area", "min_predicted_iou", "min_stability"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} {value} filters nothing or everything: use 0 to 1")

    def keeps(self, annotation: Annotation, photo_pixels: int) -> bool:
        """Whether a mask of a photo with so many pixels is wanted."""
        return (
            annotation.area > 0
            and annotation.area >= self.min_area * photo_pixels
            and annotation.predicted_iou >= self.min_predicted_iou
            and annotation.stability_score >= self.min_stability
        )

    def __str__(self) -> str:
        asked = [f"covers at least {self.min_area:.3%} of its photo" if self.min_area else "has a pixel"]
        if self.min_predicted_iou:
            asked.append(f"has a predicted IoU of {self.min_predicted_iou} or more")
        if self.min_stability:
            asked.append(f"has a stability score of {self.min_stability} or more")
        return " and ".join(asked)


def parse_record(content: bytes) -> Record:
    """Read a record and check all that is used of it.

    Raises:
        BrokenRecordError: no JSON, another layout, a damaged mask, or one of another size than the photo's.
    """
    try:
        loaded = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: JSON and UTF-8 errors, and numbers of endless length
        raise BrokenRecordError(f"its JSON is truncated or damaged ({error})") from error
    image = loaded.get("image") if isinstance(loaded, dict) else None
    annotations = loaded.get("annotations") if isinstance(loaded, dict) else None
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise BrokenRecordError("its JSON has no 'image' object with an 'annotations' list beside it, as SA-1B's has")
    size = (_length(image, "height"), _length(image, "width"))
    return Record(size, tuple(_annotation(entry, index, size) for index, entry in enumerate(annotations)))


def _length(image: dict[str, object], name: str) -> int:
    value = image.get(name)
    if type(value) is not int or value < 1:
        raise BrokenRecordError(f"its JSON gives the photo the {name} {value!r}")
    return value


def _annotation(entry: object, index: int, size: tuple[int, int]) -> Annotation:
    if not isinstance(entry, dict):
        raise BrokenRecordError(f"annotation {index} is a {type(entry).__name__}")
    try:
        rle, area = _checked_rle(entry.get("segmentation"), size)
        return Annotation(
            rle,
            area,
            _box(entry, "bbox"),
            _number(entry.get("predicted_iou", 1.0)),
            _number(entry.get("stability_score", 1.0)),
            _box(entry, "crop_box"),
            _points(entry.get("point_coords", [])),
        )
    except BrokenRecordError as error:
        raise BrokenRecordError(f"annotation {index}: {error}") from error


def _checked_rle(segmentation: object, size: tuple[int, int]) -> tuple[Rle, int]:
    """A segmentation in compressed form, and its area in pixels, once its runs are known to cover `size` exactly."""
    if isinstance(segmentation, list):
        raise BrokenRecordError("its segmentation is a polygon; SA-1B's are RLEs")
    if not isinstance(segmentation, dict):
        raise BrokenRecordError(f"its segmentation is a {type(segmentation).__name__}; SA-1B's are RLEs")
    if segmentation.get("size") != list(size):
        raise BrokenRecordError(f"its RLE has the size {segmentation.get('size')!r} in a photo of {list(size)}")
    counts = segmentation.get("counts")
    lengths = _run_lengths(counts)
    pixels = size[0] * size[1]
    # Each length is bounded before they are added up, so that the sum cannot wrap around to the right one.
    outside = lengths.size == 0 or int(lengths.min()) < 0 or int(lengths.max()) > pixels
    if outside or int(lengths.sum()) != pixels:
        raise BrokenRecordError(f"its RLE does not cover the photo's {pixels} pixels")
    compressed = counts if isinstance(counts, str) else _compressed(lengths, size)
    return {"size": list(size), "counts": compressed}, int(lengths[1::2].sum())


def _run_lengths(counts: object) -> npt.NDArray[np.int64]:
    """The lengths of the runs, zeros first, of either form of counts."""
    try:
        if isinstance(counts, str):
            return runs.decompress(counts)
        if isinstance(counts, list) and all(type(length) is int for length in counts):
            return np.array(counts, np.int64)
    except (UsageError, OverflowError) as error:  # OverflowError: a run beyond 64 bits
        raise BrokenRecordError(f"its RLE is damaged ({error})") from error
    raise BrokenRecordError("its RLE has no counts, neither a string nor a list of whole numbers")


def _compressed(lengths: npt.NDArray[np.int64], size: tuple[int, int]) -> str:
    from pycocotools import mask as coco  # noqa: PLC0415 - SA-1B itself only has the compressed form

    rle = coco.frPyObjects({"size": list(size), "counts": lengths.tolist()}, *size)
    counts: bytes = rle["counts"]
    return counts.decode("ascii")


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number beyond all floats
            if math.isfinite(value):
                return float(value)
    raise BrokenRecordError(f"{value!r:.40} stands where a number should")


def _box(entry: dict[str, object], name: str) -> Box | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise BrokenRecordError(f"its {name} is not a list of four numbers")
    x, y, width, height = map(_number, value)
    return x, y, width, height


def _points(value: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise BrokenRecordError("its point_coords are not a list of x, y")
    return tuple((_number(x), _number(y)) for x, y in value)
