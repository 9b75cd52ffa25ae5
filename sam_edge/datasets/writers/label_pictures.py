"""Label pictures: Pascal VOC's objects and classes, and Cityscapes' ids.

Each pixel has one object, so where masks overlap the smallest is on top; what the others lose is counted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_edge.data.label_layouts import (
    CITY_IDS_END,
    CITY_LABELS,
    CITY_LABELS_END,
    CITY_PHOTO_END,
    CITY_PHOTOS,
    PICTURE_ENDING,
    VOC_CLASSES,
    VOC_OBJECTS,
    VOC_PHOTOS,
)
from sam_edge.data.label_maps import CATEGORIES, CITY_NAMES, CITY_OBJECTS, VOC_NAMES, VOC_VOID
from sam_edge.data.sa1b import Annotation
from sam_edge.data.skips import BrokenRecordError
from sam_edge.datasets.entries import Entry
from sam_edge_runtime.automatic import rle as runs

from .format import Categories, Loss, Writer

_LIST = "ImageSets/Segmentation/all.txt"
_SPLIT = "all/all"  # split and city
_CITY_CLASSES = 64  # the last class: 16 bits hold no more of a thousand objects each
_FIRST_OWN_CITY_CLASS = 34  # Cityscapes' own end before it


class VocWriter(Writer):
    """Writes pictures of objects and of classes, `ImageSets` and `categories.json`; photos into `JPEGImages`."""

    def __init__(self, folder: Path, form: str | None, *, with_photos: bool) -> None:
        super().__init__(folder, form, with_photos=with_photos)
        own = {name: index for index, name in enumerate(VOC_NAMES) if index}
        self._categories = Categories(numbers=own)
        self._stems: list[str] = []

    def add(self, entry: Entry) -> None:
        """Write an entry.

        Raises:
            BrokenRecordError: it has more objects, or the set more classes, than 8 bits hold.
        """
        if len(entry.masks) >= VOC_VOID:
            raise BrokenRecordError(f"it has {len(entry.masks)} masks, and VOC's pictures hold {VOC_VOID - 1}")
        classes = [self._categories.number(each.name) for each in entry.masks]
        if max(classes, default=0) >= VOC_VOID:
            raise BrokenRecordError(f"the set has more than {VOC_VOID - 1} categories, and VOC's pictures hold no more")
        objects = painted(entry, range(1, len(entry.masks) + 1), self.loss)
        by_object = np.array([0, *classes], np.uint16)
        self.write_photo(entry, VOC_PHOTOS)
        for folder, labels in ((VOC_OBJECTS, objects), (VOC_CLASSES, by_object[objects])):
            self.write(f"{folder}/{entry.stem}{PICTURE_ENDING}", _png(labels.astype(np.uint8), in_colours=True))
        self._stems.append(entry.stem)

    def finish(self) -> None:
        """Write the list of photos and the classes."""
        self.write(_LIST, "".join(f"{stem}\n" for stem in self._stems).encode())
        self.write(CATEGORIES, _names(self._categories))


class CityscapesWriter(Writer):
    """Writes pictures of ids and of classes, and `categories.json`; photos into `leftImg8bit`."""

    def __init__(self, folder: Path, form: str | None, *, with_photos: bool) -> None:
        super().__init__(folder, form, with_photos=with_photos)
        own = {name: number for number, name in CITY_NAMES.items()}
        self._categories = Categories(_FIRST_OWN_CITY_CLASS, own)

    def add(self, entry: Entry) -> None:
        """Write an entry.

        Raises:
            BrokenRecordError: it has more objects of a class, or the set more classes, than 16 bits hold.
        """
        classes = [self._categories.number(each.name) for each in entry.masks]
        if max(classes, default=0) > _CITY_CLASSES:
            raise BrokenRecordError(
                f"the set has too many categories for Cityscapes' ids, of which {_FIRST_OWN_CITY_CLASS} to "
                f"{_CITY_CLASSES} are free"
            )
        ids = _city_ids(entry.masks, classes)
        labels = painted(entry, ids, self.loss)
        self.write_photo(entry, f"{CITY_PHOTOS}/{_SPLIT}", CITY_PHOTO_END)
        name = f"{CITY_LABELS}/{_SPLIT}/{entry.stem}"
        self.write(f"{name}{CITY_IDS_END}{PICTURE_ENDING}", _png(labels))
        by_class = np.where(labels >= CITY_OBJECTS, labels // CITY_OBJECTS, labels).astype(np.uint8)
        self.write(f"{name}{CITY_LABELS_END}{PICTURE_ENDING}", _png(by_class))

    def finish(self) -> None:
        """Write the classes."""
        self.write(CATEGORIES, _names(self._categories))


def painted(entry: Entry, ids: Sequence[int], loss: Loss) -> npt.NDArray[np.uint16]:
    """A picture (H, W) of ids, 0 for no mask; smaller masks lie on larger ones. What they lose is added to `loss`."""
    labels = np.zeros(entry.size, np.uint16)
    order = sorted(range(len(ids)), key=lambda index: -entry.masks[index].area)
    masks: dict[int, Any] = {}
    for index in order:
        labels[runs.decode(entry.masks[index].rle)] = ids[index]
        masks.setdefault(ids[index], []).append(entry.masks[index])
    left = np.bincount(labels.ravel(), minlength=max([0, *ids]) + 1)
    for number, together in masks.items():
        for mask in together:
            # Several of one id are one region afterwards: each has it in common with itself alone.
            loss.add(_share(int(left[number]), mask.area))
    return labels


def _share(left: int, area: int) -> float:
    """IoU of a mask and of what is left of it, or of a region that it lies in."""
    return min(left, area) / max(left, area)


def _city_ids(masks: Sequence[Annotation], classes: Sequence[int]) -> list[int]:
    """Class * 1000 + number for objects, the class alone for groups."""
    counts: dict[int, int] = {}
    ids = []
    for mask, category in zip(masks, classes, strict=True):
        if mask.crowd:
            ids.append(category)
            continue
        counts[category] = number = counts.get(category, -1) + 1
        if number >= CITY_OBJECTS:
            raise BrokenRecordError(f"it has more than {CITY_OBJECTS} masks of one category")
        ids.append(category * CITY_OBJECTS + number)
    return ids


def _names(categories: Categories) -> bytes:
    return json.dumps({str(number): name for name, number in categories.numbers.items()}, indent=1).encode()


def _png(labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], *, in_colours: bool = False) -> bytes:
    picture = Image.fromarray(labels)
    if in_colours:
        picture.putpalette(_palette())
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _palette() -> list[int]:
    """VOC's colours: the bits of an index, three at a time, are the highest bits of red, green and blue."""
    colours = np.zeros((256, 3), np.int64)
    index = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return [int(value) for value in colours.ravel()]
