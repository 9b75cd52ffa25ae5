"""Folders of data sets whose masks are label pictures: which photo and which picture belong together.

| folder | photos | label pictures |
|---|---|---|
| BSDS500 (or its `images/SPLIT`) | `images/SPLIT/KEY.jpg` | `groundTruth/SPLIT/KEY.mat` |
| Pascal VOC | `JPEGImages/KEY.jpg` | `SegmentationObject/KEY.png` |
| Cityscapes | `leftImg8bit/SPLIT/CITY/KEY_leftImg8bit.png` | `gtFine/SPLIT/CITY/KEY_gtFine_instanceIds.png` |

Photos of VOC and Cityscapes may be missing: the label pictures have the photos' size.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sam_edge_runtime.photo.formats import PHOTO_ENDINGS

BSDS_PHOTOS, BSDS_LABELS = "images", "groundTruth"
VOC_PHOTOS, VOC_OBJECTS, VOC_CLASSES = "JPEGImages", "SegmentationObject", "SegmentationClass"
CITY_PHOTOS, CITY_LABELS = "leftImg8bit", "gtFine"
CITY_PHOTO_END, CITY_IDS_END, CITY_LABELS_END = "_leftImg8bit", "_gtFine_instanceIds", "_gtFine_labelIds"
MAT_ENDING, PICTURE_ENDING = ".mat", ".png"

Pairs = list[tuple[str, Path | None, Path]]


def label_pairs(folder: Path) -> Pairs:
    """Key, photo and label picture of each record of a folder, by name; empty for a folder of another layout."""
    with suppress(OSError):
        return _voc(folder) or _cityscapes(folder) or _bsds(folder)
    return []


def _bsds(folder: Path) -> Pairs:
    if (folder / BSDS_LABELS).is_dir() and (folder / BSDS_PHOTOS).is_dir():
        splits = sorted(path for path in (folder / BSDS_PHOTOS).iterdir() if path.is_dir())
        return [pair for split in splits for pair in _bsds(split)]
    labels = folder.parent.parent / BSDS_LABELS / folder.name
    if folder.parent.name != BSDS_PHOTOS or not labels.is_dir():
        return []
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_ENDINGS)
    return [(photo.stem, photo, labels / f"{photo.stem}{MAT_ENDING}") for photo in photos]


def _voc(folder: Path) -> Pairs:
    if not (folder / VOC_OBJECTS).is_dir():
        return []
    photos = _by_stem((folder / VOC_PHOTOS).iterdir()) if (folder / VOC_PHOTOS).is_dir() else {}
    pictures = sorted(path for path in (folder / VOC_OBJECTS).iterdir() if path.suffix.lower() == PICTURE_ENDING)
    return [(picture.stem, photos.get(picture.stem), picture) for picture in pictures]


def _cityscapes(folder: Path) -> Pairs:
    labels = folder / CITY_LABELS
    if not labels.is_dir():
        return []
    photos = _by_stem((folder / CITY_PHOTOS).rglob(f"*{CITY_PHOTO_END}.*"))
    pictures = sorted(labels.rglob(f"*{CITY_IDS_END}{PICTURE_ENDING}"))
    by_key = {picture.stem.removesuffix(CITY_IDS_END): picture for picture in pictures}
    return [(key, photos.get(f"{key}{CITY_PHOTO_END}"), picture) for key, picture in by_key.items()]


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths) if path.suffix.lower() in PHOTO_ENDINGS}
