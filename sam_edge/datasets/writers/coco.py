"""COCO's and LVIS's layout: one JSON file about all photos, written entry by entry.

Groups of objects (`iscrowd`) are uncompressed RLEs where other masks are polygons, as COCO has them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

from sam_edge.data.polygons import polygon_rle
from sam_edge.data.sa1b import Annotation
from sam_edge.datasets.entries import Entry
from sam_edge.datasets.outlines import outlines
from sam_edge_runtime.automatic import rle as runs

from .format import POLYGONS, RLE, UNCOMPRESSED, Categories, Loss, Writer

_PHOTOS = "images"
_FREQUENT, _COMMON = 100, 10  # photos with a category, above which it is so in LVIS (arXiv 1908.03195, section 4)


class CocoWriter(Writer):
    """Writes `instances.json`, and the photos into `images`."""

    masks = (RLE, UNCOMPRESSED, POLYGONS)
    file_name: ClassVar[str] = "instances.json"

    def __init__(self, folder: Path, form: str | None, *, with_photos: bool) -> None:
        super().__init__(folder, form, with_photos=with_photos)
        self._categories = Categories()
        self._masks_of: Counter[int] = Counter()  # by category
        self._photos_of: Counter[int] = Counter()
        self._lists = {name: _List(folder / f".{name}") for name in ("images", "annotations")}

    def add(self, entry: Entry) -> None:
        """Write an entry."""
        file_name = self.write_photo(entry, _PHOTOS)
        height, width = entry.size
        image = self._lists["images"].count + 1
        self._lists["images"].add(self.image(image, {"height": height, "width": width}, file_name))
        categories = [self._categories.number(each.name) for each in entry.masks]
        self._masks_of.update(categories)
        self._photos_of.update(set(categories))
        for annotation, category in zip(entry.masks, categories, strict=True):
            self._lists["annotations"].add(
                {
                    "id": self._lists["annotations"].count + 1,
                    "image_id": image,
                    "category_id": category,
                    "iscrowd": int(annotation.crowd),
                    "segmentation": segmentation(annotation, self.form, self.loss),
                    "area": annotation.area,
                    "bbox": _bbox(annotation),
                    **_estimates(annotation, entry.size),
                }
            )

    def finish(self) -> None:
        """Join the lists to one file."""
        with (self.folder / self.file_name).open("w", encoding="utf-8") as file:
            file.write('{"info": {"description": "converted by sam-edge"},\n"licenses": [],\n"categories": ')
            json.dump([self.category(number, name) for name, number in self._categories.numbers.items()], file)
            for name, each in self._lists.items():
                file.write(f',\n"{name}": [')
                file.writelines(each.lines())
                file.write("]")
            file.write("}\n")

    def image(self, number: int, size: dict[str, int], file_name: str) -> dict[str, Any]:
        """The entry of a photo."""
        return {"id": number, **size, "file_name": file_name, "license": 0}

    def category(self, number: int, name: str) -> dict[str, Any]:
        """The entry of a category."""
        return {"id": number, "name": name, "supercategory": ""}


class LvisWriter(CocoWriter):
    """Writes `lvis.json`. All categories of a photo count as searched for in it alone: nothing is known of others."""

    masks = (POLYGONS, RLE, UNCOMPRESSED)
    file_name = "lvis.json"

    def image(self, number: int, size: dict[str, int], file_name: str) -> dict[str, Any]:
        """The entry of a photo; `coco_url` is the file's name, from which readers take it."""
        more = {"coco_url": file_name, "flickr_url": "", "neg_category_ids": [], "not_exhaustive_category_ids": []}
        return {"id": number, **size, **more, "license": 0}

    def category(self, number: int, name: str) -> dict[str, Any]:
        """The entry of a category."""
        photos = self._photos_of[number]
        frequency = "f" if photos > _FREQUENT else "c" if photos > _COMMON else "r"
        counts = {"image_count": photos, "instance_count": self._masks_of[number], "frequency": frequency}
        return {"id": number, "name": name, "synset": "", "synonyms": [name], "def": "", **counts}


class _List:
    """The entries of a list, in a file of their own until all are known."""

    def __init__(self, path: Path) -> None:
        self._path, self.count = path, 0
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        if self.count:
            self._file.write(",\n")
        json.dump(entry, self._file, separators=(",", ":"))
        self.count += 1

    def lines(self) -> Iterator[str]:
        """What was written; the file is removed after that."""
        self._file.close()
        with self._path.open(encoding="utf-8") as file:
            yield from file
        self._path.unlink()


def segmentation(annotation: Annotation, form: str, loss: Loss) -> Any:
    """A mask in one of COCO's forms; what it loses is added to `loss`."""
    if form == POLYGONS and not annotation.crowd:
        polygons, holes = outlines(runs.decode(annotation.rle))
        height, width = annotation.rle["size"]
        loss.add(annotation.area / polygon_rle(polygons, (height, width))[1] if holes else 1.0)
        return polygons
    loss.add(1.0)
    if form == RLE:
        return annotation.rle
    return {"size": annotation.rle["size"], "counts": runs.decompress(annotation.rle["counts"]).tolist()}


def _bbox(annotation: Annotation) -> list[float]:
    """x, y, width, height as COCO counts them: the last pixel too."""
    from pycocotools import mask as coco  # noqa: PLC0415

    return [float(value) for value in coco.toBbox(dict(annotation.rle))]


def _estimates(annotation: Annotation, size: tuple[int, int]) -> dict[str, Any]:
    """What SA-1B says of a mask and COCO does not have; nothing where a person drew it."""
    found: dict[str, Any] = {
        name: value
        for name, value in (
            ("predicted_iou", annotation.predicted_iou),
            ("stability_score", annotation.stability_score),
        )
        if value != 1.0
    }
    if annotation.point_coords:
        found["point_coords"] = [list(point) for point in annotation.point_coords]
    if annotation.crop_box not in (None, (0.0, 0.0, float(size[1]), float(size[0]))):
        found["crop_box"] = list(annotation.crop_box or ())
    return found
