"""SA-1B's annotation record: one JSON file beside each photo.

    {"image": {"image_id", "width", "height", "file_name", "orientation"},
     "annotations": [{"id", "segmentation": COCO RLE, "bbox": XYWH, "area", "predicted_iou", "stability_score",
                      "crop_box": XYWH, "point_coords": [[x, y]]}, ...]}

Other tools' layouts are converted where they are simple (`foreign`), and numbers may be written as 640.0 or "640".
(github.com/facebookresearch/segment-anything, README, "Dataset".) `orientation` is ours and optional: the frame that
the masks refer to (`sam_edge.data.orientation`). One damaged mask makes the whole record broken. The
run lengths are added up first, because pycocotools leaves pixels uninitialized that no run covers. Areas are computed
from the run lengths; the record's own are ignored. `name` and `iscrowd` are read where an annotation has them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.automatic import rle as runs
from sam_edge_runtime.automatic.regions import bounding_box, xywh
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.read import read_size
from sam_edge_runtime.system.documents import parse_json

from .foreign import to_sa1b
from .foreign.cvat import tight_rle
from .numbers import integer, number, photo_size
from .polygons import polygon_rle
from .skips import BrokenRecordError

Box = tuple[float, float, float, float]
UPRIGHT, STORED = "upright", "stored"


@dataclass(frozen=True)
class Annotation:
    """One mask of a record.

    Attributes:
        rle: the mask in compressed form, of the photo's size.
        area: its pixels, counted from the runs.
        bbox: x, y, width, height in pixels, as the record has it; None where it has none.
        predicted_iou: estimate of the model that made the mask, 0..1; 1 where the record has none.
        stability_score: IoU of the mask at a higher and a lower threshold, 0..1; 1 where the record has none.
        crop_box: x, y, width, height of the crop in which the mask was found, or None.
        point_coords: x, y of the points that prompted the mask, in pixels; may be empty.
        name: what the mask shows, such as its category in COCO; None where the record does not say.
        crowd: whether it covers a group of objects that were not told apart (COCO's `iscrowd`).
    """

    rle: Rle
    area: int
    bbox: Box | None = None
    predicted_iou: float = 1.0
    stability_score: float = 1.0
    crop_box: Box | None = None
    point_coords: tuple[tuple[float, float], ...] = ()
    name: str | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Record:
    """The content of a JSON file.

    Attributes:
        size: (H, W) in pixels of the frame that the masks refer to.
        annotations: the masks.
        orientation: that frame as the record states it, `UPRIGHT` or `STORED`; None where it does not.
        lengths: the run lengths of all masks and their numbers, as `rle.decompress_all` gives them, where they were
            decoded at once; None where one by one.
    """

    size: tuple[int, int]
    annotations: tuple[Annotation, ...]
    orientation: str | None = None
    lengths: tuple[runs.Counts, runs.Counts] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class MaskFilter:
    """A filter for the masks of a record. Empty masks never pass.

    Attributes:
        min_area: smallest share of the photo that a mask covers, 0..1.
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
                raise UsageError(f"{name} {value} is out of range: use 0 to 1")

    def keeps(self, annotation: Annotation, photo_pixels: int) -> bool:
        """Whether a mask passes; `photo_pixels` is H * W of its photo."""
        return (
            annotation.area > 0
            and annotation.area >= self.min_area * photo_pixels
            and annotation.predicted_iou >= self.min_predicted_iou
            and annotation.stability_score >= self.min_stability
        )

    def __str__(self) -> str:
        bounds = [f"covers at least {self.min_area:.3%} of its photo" if self.min_area else "has a pixel"]
        if self.min_predicted_iou:
            bounds.append(f"has a predicted IoU of {self.min_predicted_iou} or more")
        if self.min_stability:
            bounds.append(f"has a stability score of {self.min_stability} or more")
        return " and ".join(bounds)


def bbox_of(mask: Rle) -> list[float]:
    """The `bbox` of a mask in our JSON: x, y, width, height in pixels; zeros for an empty mask.

    Width and height are the last column or row minus the first, as segment_anything counts them (utils/amg.py,
    `batched_mask_to_box` and `box_xyxy_to_xywh`). pycocotools' `toBbox` counts the last pixel too: one more of each.
    """
    return xywh(bounding_box(runs.decompress(mask["counts"]), mask["size"][0]))


def parse_record(content: bytes, photo: bytes | Callable[[], bytes] = b"") -> Record:
    """Read a record and check every field that is used.

    Args:
        content: the JSON file.
        photo: the photo's file, or what reads it, for layouts of other tools that do not state its size.

    Raises:
        BrokenRecordError: not JSON, another layout, a damaged mask, or a mask of another size than the photo.
    """
    try:
        loaded = parse_json(content)
    except ValueError as error:
        raise BrokenRecordError(f"its JSON is truncated or damaged ({error})") from error
    converted = to_sa1b(loaded, lambda: _size_of(photo if isinstance(photo, bytes) else photo()))
    if converted is not None:
        loaded = converted
    if not _is_sa1b(loaded):
        raise BrokenRecordError("its JSON is not SA-1B's: it needs an object 'image' and a list 'annotations'")
    image, annotations = loaded["image"], loaded["annotations"]
    size = photo_size(image)
    orientation = image.get("orientation")
    if orientation not in (None, UPRIGHT, STORED):
        raise BrokenRecordError(f"its JSON gives the photo the orientation {orientation!r:.40}: {UPRIGHT} or {STORED}")
    areas, lengths = _plain_areas(annotations, size)
    return Record(
        size,
        tuple(_annotation(each, index, size, areas.get(index)) for index, each in enumerate(annotations)),
        orientation,
        lengths if len(areas) == len(annotations) else None,
    )


def _size_of(photo: bytes) -> tuple[int, int]:
    size = read_size(photo)
    if size is None:
        raise BrokenRecordError("it does not state the photo's size, and the photo cannot be read")
    return size


def _is_sa1b(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("image"), dict)
        and isinstance(document.get("annotations"), list)
    )


def _plain_areas(
    annotations: list[Any], size: tuple[int, int]
) -> tuple[dict[int, int], tuple[runs.Counts, runs.Counts] | None]:
    """The areas of the masks that are sound compressed RLEs of the photo's size, by index, and their run lengths.

    All are decoded at once, which takes a fraction of the time.
    """
    segmentations = {
        index: each.get("segmentation") for index, each in enumerate(annotations) if isinstance(each, dict)
    }
    plain = {
        index: each["counts"]
        for index, each in segmentations.items()
        if isinstance(each, dict)
        and "rle" not in each
        and each.get("size") == list(size)
        and isinstance(each.get("counts"), str)
        and each["counts"]
    }
    try:
        lengths, numbers = runs.decompress_all(list(plain.values()))
    except UsageError:  # one is damaged: they are read one by one, which tells which
        return {}, None
    if not len(numbers):
        return {}, None
    starts, pixels = np.cumsum(numbers) - numbers, size[0] * size[1]
    # Each length is bounded before adding, so that the sum cannot overflow to the right value.
    sound = (np.minimum.reduceat(lengths, starts) >= 0) & (np.maximum.reduceat(lengths, starts) <= pixels)
    bounded = lengths if sound.all() else np.clip(lengths, 0, pixels)
    sound &= np.add.reduceat(bounded, starts) == pixels
    is_inside = (np.arange(len(lengths)) - np.repeat(starts, numbers)) & 1
    areas = np.add.reduceat(bounded * is_inside, starts)
    found = {index: int(area) for index, area, good in zip(plain, areas, sound, strict=True) if good}
    return found, (lengths, numbers)


def _annotation(entry: object, index: int, size: tuple[int, int], area: int | None) -> Annotation:
    """One annotation; `area` is that of a mask that is known to be sound, None where it has to be checked."""
    if not isinstance(entry, dict):
        raise BrokenRecordError(f"annotation {index} is a {type(entry).__name__}")
    try:
        if area is None:
            rle, area = _checked_rle(entry.get("segmentation"), size)
        else:
            rle = {"size": list(size), "counts": entry["segmentation"]["counts"]}
        return Annotation(
            rle,
            area,
            _box(entry, "bbox"),
            _score(entry, "predicted_iou"),
            _score(entry, "stability_score"),
            _box(entry, "crop_box"),
            _points(entry.get("point_coords") or []),
            _name(entry),
            entry.get("iscrowd") in (1, True),
        )
    except BrokenRecordError as error:
        raise BrokenRecordError(f"annotation {index}: {error}") from error


def _checked_rle(segmentation: object, size: tuple[int, int]) -> tuple[Rle, int]:
    """A segmentation in compressed form and its area in pixels, after checking that its runs cover `size` exactly."""
    if isinstance(segmentation, list):
        return polygon_rle(segmentation, size)
    if not isinstance(segmentation, dict):
        raise BrokenRecordError(f"its segmentation is a {type(segmentation).__name__}; SA-1B's are RLEs")
    if "rle" in segmentation:
        segmentation = tight_rle(segmentation, size)
    lengths_of_sides = segmentation.get("size")
    if not isinstance(lengths_of_sides, list) or [integer(each) for each in lengths_of_sides] != list(size):
        raise BrokenRecordError(f"its RLE has the size {segmentation.get('size')!r}, and the photo {list(size)}")
    counts = _unquoted(segmentation.get("counts"))
    lengths = _run_lengths(counts)
    pixels = size[0] * size[1]
    # Each length is bounded before adding, so that the sum cannot overflow to the right value.
    outside = lengths.size == 0 or int(lengths.min()) < 0 or int(lengths.max()) > pixels
    if outside or int(lengths.sum()) != pixels:
        raise BrokenRecordError(f"its RLE does not cover the photo's {pixels} pixels")
    compressed = counts if isinstance(counts, str) else _compressed(lengths, size)
    return {"size": list(size), "counts": compressed}, int(lengths[1::2].sum())


def _run_lengths(counts: object) -> npt.NDArray[np.int64]:
    """The lengths of the runs, zeros first, from compressed counts (str) or uncompressed ones (list)."""
    try:
        if isinstance(counts, str):
            return runs.decompress(counts)
        if isinstance(counts, list) and not any(isinstance(length, str) for length in counts):
            lengths = [integer(length) for length in counts]
            if None not in lengths:
                return np.array(lengths, np.int64)
    except (UsageError, OverflowError) as error:  # OverflowError: a run beyond 64 bits
        raise BrokenRecordError(f"its RLE is damaged ({error})") from error
    raise BrokenRecordError("its RLE has no counts: neither a string nor a list of integers")


def _unquoted(counts: object) -> object:
    """Compressed counts; Python's `str` of bytes, such as "b'PQ1'", is undone."""
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(counts)
            if isinstance(value, bytes) and value.isascii():
                return value.decode("ascii")
    return counts


def _compressed(lengths: npt.NDArray[np.int64], size: tuple[int, int]) -> str:
    from pycocotools import mask as coco  # noqa: PLC0415 - SA-1B itself has only the compressed form

    rle = coco.frPyObjects({"size": list(size), "counts": lengths.tolist()}, *size)
    counts: bytes = rle["counts"]
    return counts.decode("ascii")


def _name(entry: dict[str, object]) -> str | None:
    name = entry.get("name")
    return name if isinstance(name, str) else None


def _score(entry: dict[str, object], name: str) -> float:
    value = entry.get(name)
    return 1.0 if value is None else number(value)


def _box(entry: dict[str, object], name: str) -> Box | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise BrokenRecordError(f"its {name} is not a list of four numbers")
    x, y, width, height = map(number, value)
    return x, y, width, height


def _points(value: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise BrokenRecordError("its point_coords are not a list of x, y")
    return tuple((number(x), number(y)) for x, y in value)
