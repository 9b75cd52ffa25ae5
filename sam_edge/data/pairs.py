"""Which photo and which JSON file belong together, by their names in a folder or a tar.

A record's key is a name up to its last dot, so that dates and versions may have dots: `IMG_2023.05.01.jpg` and
`IMG_2023.05.01.json` are one record. Webdataset's rule, up to the first dot, would lose them. Files that only its rule
puts with a complete record, such as `sa_1.seg.png` beside `sa_1.jpg` and `sa_1.json`, are further parts of that record
and no photos of their own.

`NAME_masks.jpg` beside `NAME.json` is the picture that `sam-edge segment` draws, and no photo either.

Photos and JSON files may also lie in two folders beside each other, such as `images` and `annotations`. In folders, a
JSON file may have the photo's whole name before its ending: Supervisely writes `ann/a.jpg.json` beside `img/a.jpg`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from sam_edge_runtime.photo.formats import PHOTO_ENDINGS

RECORD_ENDING = ".json"
DRAWN = "_masks"  # at the end of the stem of a picture of masks
# Names of folders, in lower case.
PHOTO_FOLDERS = ("images", "image", "imgs", "img", "photos", "jpegimages")
RECORD_FOLDERS = ("annotations", "annotation", "ann", "labels", "jsons", "json")


def split_name(name: str) -> tuple[str, str] | None:
    """The key of a file's record, and its ending in lower case with the dot; None if it is neither photo nor JSON."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, dot, ending = file.rpartition(".")
    ending = dot + ending.lower()
    if not stem or file.startswith(".") or (ending not in PHOTO_ENDINGS and ending != RECORD_ENDING):
        return None
    return f"{folder}{slash}{stem}", ending


def is_further_part(key: str, complete: Collection[str]) -> bool:
    """Whether a photo without JSON is a part of another record: one of `complete`, whose name ends at its first dot."""
    folder, slash, name = key.rpartition("/")
    first, dot, _ = name.partition(".")
    return bool(dot) and f"{folder}{slash}{first}" in complete


def is_drawn(photo: Path, record_stems: Collection[str]) -> bool:
    """Whether a file is the picture of masks that belongs to one of the JSON files, by their stems."""
    return photo.suffix == ".jpg" and photo.stem.endswith(DRAWN) and photo.stem.removesuffix(DRAWN) in record_stems


def photo_key(record_key: str, photo_keys: Collection[str]) -> str | None:
    """The key of the photo that a JSON file in an annotation folder belongs to, or None."""
    path = PurePosixPath(record_key)
    if path.parent.name.lower() not in RECORD_FOLDERS:
        return None
    beside = path.parent.parent
    for name in {PurePosixPath(key).parent.name for key in photo_keys}:
        key = str(beside / name / path.name)
        if name.lower() in PHOTO_FOLDERS and key in photo_keys:
            return key
    return None


def folder_pair(folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """The photo folder and the annotation folder among `folders`; None unless there is one of each."""
    by_name: Mapping[str, Path] = {path.name.lower(): path for path in folders}
    photos = [by_name[name] for name in PHOTO_FOLDERS if name in by_name]
    records = [by_name[name] for name in RECORD_FOLDERS if name in by_name]
    return (photos[0], records[0]) if len(photos) == len(records) == 1 else None
