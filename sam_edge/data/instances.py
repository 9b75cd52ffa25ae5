"""JSON files that describe all photos of a folder: COCO's instances, tasks of Label Studio, projects of VIA."""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sam_edge_runtime.system.documents import parse_json
from sam_edge_runtime.system.text import read_regular

from .coco_index import CocoIndex
from .foreign import records_by_photo
from .skips import BrokenRecordError


def described_photos(path: Path) -> Collection[str]:
    """The file names of the photos that a JSON file describes, in its order; none if it describes no photos by name."""
    try:
        return _instances(path).keys()
    except (OSError, ValueError, RecursionError):
        return ()


def record_of(path: Path, photo: str) -> bytes:
    """The part of such a file that describes one photo, as JSON for `parse_record`.

    Raises:
        OSError: the file cannot be read.
        BrokenRecordError: it no longer describes the photo.
    """
    try:
        return json.dumps(_instances(path)[photo]).encode()
    except (KeyError, ValueError, RecursionError) as error:
        raise BrokenRecordError(f"{path.name} does not describe it any more") from error


def _instances(path: Path) -> Mapping[str, Any]:
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, size: int, changed: int) -> Mapping[str, Any]:
    """The records by the photos' file names; `size` and `changed` tell a newer file apart."""
    if stat.S_ISREG(path.stat().st_mode):  # a pipe could block for ever
        with suppress(ValueError, RecursionError):
            return CocoIndex(path)
    return records_by_photo(parse_json(read_regular(path)))
