"""Human masks in COCO's form, which average precision and recall are measured against.

They come from records as `open_source` reads them, with names beside them (`sam_edge.data.mask_names`), or from one
file of annotations in COCO's or LVIS's layout (https://cocodataset.org/#format-data, https://www.lvisdataset.org).
Such a file refers to photos by `file_name`, LVIS's by the end of `coco_url`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.sample import Sample
from sam_edge.data.skips import BrokenRecordError, Skip, SkipLog
from sam_edge.data.sources import Source
from sam_edge.data.stream import read_sample, walk
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.system.documents import parse_json, read_json

from .coco_categories import category_numbers

UNNAMED = "object"  # the one category of masks without names
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}  # LVIS's
NEGATIVE, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"  # LVIS's fields of an image


@dataclass(frozen=True, eq=False)
class LabelledPhoto:
    """A photo with its human masks.

    Attributes:
        photo: `(H, W, 3)` uint8 RGB.
        image: COCO's entry of the photo: `id`, `height`, `width`, and LVIS's lists of categories where it has them.
        annotations: COCO's entries of its masks: `id`, `image_id`, `category_id`, `segmentation`, `area`, `bbox`
            (x, y, width, height) and `iscrowd`.
    """

    photo: Photo
    image: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]

    @property
    def number(self) -> int:
        """The photo's `id`."""
        return int(self.image["id"])

    def without_pixels(self) -> LabelledPhoto:
        """The same without the photo: those of a whole data set would not fit into memory."""
        return LabelledPhoto(np.zeros((0, 0, 3), np.uint8), self.image, self.annotations)


@dataclass(frozen=True)
class Category:
    """A category: its number, its name, and how often LVIS's training photos have it (`r`, `c` or `f`), or None."""

    number: int
    name: str
    frequency: str | None = None


class GroundTruth(Protocol):
    """Photos with human masks of known categories."""

    @property
    def source(self) -> Source: ...  # noqa: D102
    @property
    def categories(self) -> tuple[Category, ...]: ...  # noqa: D102

    def photos(self, log: SkipLog, limit: int | None) -> Iterator[LabelledPhoto]:
        """The photos in order, at most `limit`; `log` counts the records.

        Raises:
            DataError: there are none.
        """


class RecordTruth:
    """Ground truth from records that hold their masks.

    Attributes:
        source: the records.
        categories: those of the names; one without names.
    """

    def __init__(self, source: Source, *, named: bool) -> None:
        """Read the names.

        Args:
            source: annotated records.
            named: whether categories matter; else all masks have the same one.

        Raises:
            DataError: a file of names is missing or malformed, or has no name.
        """
        self.source = source
        self._names = MaskNames([source]) if named else None
        if self._names is not None and not self._names.counts:
            raise DataError(f"the names of {source.name} are all null: average precision needs categories")
        numbers = category_numbers(self._names.counts if self._names is not None else (UNNAMED,))
        self._numbers = numbers
        self.categories = tuple(Category(number, name) for name, number in numbers.items())

    def photos(self, log: SkipLog, limit: int | None) -> Iterator[LabelledPhoto]:
        """Photos that have masks, as `GroundTruth.photos`. Masks without a name are left out."""
        given, first = 0, 1
        for sample, number in _numbered(self.source, log):
            annotations = self._annotations(sample, number, first)
            first += len(annotations)
            if annotations:
                height, width = sample.size
                yield LabelledPhoto(sample.photo, {"id": number, "height": height, "width": width}, annotations)
                given += 1
                if given == limit:
                    return
        if not given:
            raise DataError(f"{self.source.name} has no photo with a mask: name other data")

    def _annotations(self, sample: Sample, number: int, first: int) -> tuple[dict[str, Any], ...]:
        from pycocotools import mask as coco  # noqa: PLC0415

        names: Sequence[str | None] = [UNNAMED] * len(sample.rles) if self._names is None else self._names.of(sample)
        named = [(dict(rle), name) for rle, name in zip(sample.rles, names, strict=True) if name is not None]
        return tuple(
            {
                "id": first + index,  # from 1: pycocotools takes an id of 0 for "no match"
                "image_id": number,
                "category_id": self._numbers[name],
                "segmentation": rle,
                "area": int(coco.area(rle)),
                "bbox": [float(each) for each in coco.toBbox(rle)],
                "iscrowd": 0,
            }
            for index, (rle, name) in enumerate(named)
        )


class FileTruth:
    """Ground truth from a file of annotations, for the photos of a source.

    Attributes:
        source: the photos; their own annotations are not read.
        categories: the file's.
    """

    def __init__(self, source: Source, path: Path) -> None:
        """Read the file.

        Raises:
            DataError: it cannot be read, or is not laid out as COCO's or LVIS's.
        """
        self.source, self._path = source, path
        try:
            document = read_json(path)
        except OSError as error:
            raise DataError(f"cannot read the annotations {path} ({error.strerror}): check the path") from error
        except ValueError as error:
            raise DataError(f"the annotations {path} are no JSON ({error}): correct them") from error
        try:
            self.categories = tuple(
                Category(int(each["id"]), str(each["name"]), each.get("frequency")) for each in document["categories"]
            )
            self._images = {_file_stem(image): _checked_image(image) for image in document["images"]}
            known = {category.number for category in self.categories}
            self._annotations: dict[int, list[dict[str, Any]]] = {}
            for annotation in document["annotations"]:
                checked = _checked_annotation(annotation, known)
                self._annotations.setdefault(checked["image_id"], []).append(checked)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} is not laid out as COCO's or LVIS's annotations ({type(error).__name__}: {error!s:.80}): it "
                "needs images, annotations and categories"
            ) from error

    def photos(self, log: SkipLog, limit: int | None) -> Iterator[LabelledPhoto]:
        """Photos that the file lists, as `GroundTruth.photos`; also those without masks."""
        given = 0
        for sample in walk(self.source, log, photos_only=True):
            image = self._images.get(PurePosixPath(sample.key).name)
            if image is None:
                continue
            if (image["height"], image["width"]) != sample.size:
                wanted, found = f"{image['width']}x{image['height']}", "{1}x{0}".format(*sample.size)
                log.add(0, [Skip(sample.source, sample.key, f"it has {found} pixels, and its annotations {wanted}")])
                continue
            yield LabelledPhoto(sample.photo, image, tuple(self._annotations.get(image["id"], ())))
            given += 1
            if given == limit:
                return
        if not given:
            raise DataError(
                f"none of the photos of {self.source.name} is in {self._path}: name those that it describes"
            )


def open_truth(source: Source, annotations: Path | None, *, named: bool) -> GroundTruth:
    """The ground truth of a source: from `annotations`, or from its own records where that is None.

    Args:
        source: photos.
        annotations: a file in COCO's or LVIS's layout, or None.
        named: whether categories matter.

    Raises:
        DataError: the annotations or names are missing or malformed.
    """
    if annotations is not None:
        return FileTruth(source, annotations)
    if not source.annotated:
        raise DataError(f"{source.name} has photos without masks: name their file with --annotations, or other data")
    return RecordTruth(source, named=named)


def dataset(categories: Sequence[Category], photos: Sequence[LabelledPhoto]) -> dict[str, Any]:
    """COCO's document of the photos' ground truth."""
    return {
        "images": [photo.image for photo in photos],
        "annotations": [annotation for photo in photos for annotation in photo.annotations],
        "categories": [
            {"id": each.number, "name": each.name, **({"frequency": each.frequency} if each.frequency else {})}
            for each in categories
        ],
    }


def _numbered(source: Source, log: SkipLog) -> Iterator[tuple[Sample, int]]:
    """Every usable record with its photo's number: the record's own, or its place in the source, from 1."""
    taken: set[int] = set()
    place = 0
    for shard in source.shards:
        for raw in shard.stream():
            place += 1
            try:
                if isinstance(raw, Skip):
                    log.add(1, [raw])
                    continue
                sample = read_sample(raw, annotated=source.annotated)
            except BrokenRecordError as error:
                log.add(1, [Skip(raw.source, raw.key, str(error))])
                continue
            log.add(1)
            number = _own_number(raw.record)
            number = place if number is None or number in taken else number
            taken.add(number)
            yield sample, number
    log.check()


def _own_number(record: bytes | None) -> int | None:
    document = parse_json(record) if record else None
    image = document.get("image") if isinstance(document, dict) else None
    number = image.get("image_id", image.get("id")) if isinstance(image, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _file_stem(image: dict[str, Any]) -> str:
    return PurePosixPath(str(image.get("file_name") or image["coco_url"])).stem


def _checked_image(image: dict[str, Any]) -> dict[str, Any]:
    checked = {name: int(image[name]) for name in ("id", "height", "width")}
    lists = {name: [int(each) for each in image[name]] for name in (NEGATIVE, PARTIAL) if name in image}
    return {**checked, **lists}


def _checked_annotation(annotation: dict[str, Any], known: set[int]) -> dict[str, Any]:
    checked = {name: int(annotation[name]) for name in ("id", "image_id", "category_id")}
    if checked["category_id"] not in known:
        raise ValueError(f"the category {checked['category_id']} is not among the categories")
    segmentation = annotation["segmentation"]
    if not isinstance(segmentation, list | dict) or not segmentation:
        raise ValueError(f"annotation {checked['id']} has no segmentation")
    box = [float(each) for each in annotation["bbox"]]
    crowd = int(annotation.get("iscrowd", 0))
    return {**checked, "segmentation": segmentation, "area": float(annotation["area"]), "bbox": box, "iscrowd": crowd}
