"""A COCO file of instances that describes all photos of a folder (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from sam_edge_runtime.system.documents import parse_json
from sam_edge_runtime.system.text import read_regular

from .skips import BrokenRecordError


def described_photos(path: Path) -> frozenset[str]:
    """The file names of the photos that a JSON file describes; empty if it is no COCO file."""
    try:
        return frozenset(_instances(path))
    except (OSError, ValueError, RecursionError):
        return frozenset()


def record_of(path: Path, photo: str) -> bytes:
    """The record of one photo, in SA-1B's layout, out of a COCO file.

    Raises:
        OSError: the file cannot be read.
        BrokenRecordError: it no longer describes the photo.
    """
    try:
        return json.dumps(_instances(path)[photo]).encode()
    except (KeyError, ValueError, RecursionError) as error:
        raise BrokenRecordError(f"{path.name} does not describe it any more") from error


def _instances(path: Path) -> dict[str, dict[str, Any]]:
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, size: int, changed: int) -> dict[str, dict[str, Any]]:
    """The records by the photos' file names; `size` and `changed` tell a newer file apart."""
    document = parse_json(read_regular(path))
    images = document.get("images") if isinstance(document, dict) else None
    annotations = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(images, list) or not isinstance(annotations, list):
        return {}
    by_id: dict[str, dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    for image in images:
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            record = {"image": image, "annotations": []}
            by_id[str(image.get("id"))] = record
            records[PurePosixPath(image["file_name"].replace("\\", "/")).name] = record
    for annotation in annotations:
        owner = by_id.get(str(annotation.get("image_id"))) if isinstance(annotation, dict) else None
        if owner is not None:
            owner["annotations"].append(annotation)
    return records
