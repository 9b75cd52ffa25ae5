"""What a layout of another tool is, and checks that several layouts share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from sam_edge.data.skips import BrokenRecordError

PhotoSize = Callable[[], tuple[int, int]]
_COCO = "export COCO with its masks there, and lay its instances.json beside the photos"


@dataclass(frozen=True)
class Format:
    """A tool's layout.

    Attributes:
        tool: its name.
        recognizes: whether a JSON document has the layout.
        convert: gives a document about one photo in SA-1B's layout; None if it is not read.
        split: gives the parts of a document about several photos, by the photos' file names; None if there are no such
            documents.
        remedy: what to do where it is not read.
    """

    tool: str
    recognizes: Callable[[Any], bool]
    convert: Callable[[Any, PhotoSize], dict[str, Any]] | None = None
    split: Callable[[Any], dict[str, Any]] | None = None
    remedy: str = _COCO


def has(document: Any, **kinds: type) -> bool:
    """Whether a document is an object with members of the given types."""
    return isinstance(document, dict) and all(isinstance(document.get(name), kind) for name, kind in kinds.items())


def is_list_of(document: Any, name: str, kind: type) -> bool:
    """Whether a document is a list of objects, each with a member `name` of the given type."""
    return isinstance(document, list) and bool(document) and all(has(each, **{name: kind}) for each in document)


def record(
    size: tuple[int, int], segmentations: Iterable[object], more: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """SA-1B's layout of masks for a photo of (H, W) `size` in pixels; `more` holds further members of each mask."""
    height, width = size
    return {
        "image": {"height": height, "width": width},
        "annotations": [
            {"segmentation": segmentation, **(members or {})}
            for segmentation, members in zip_longest(segmentations, more)
        ],
    }


def one_of(parts: dict[str, Any]) -> Any:
    """The only part of a document.

    Raises:
        BrokenRecordError: it describes no photo, or several.
    """
    if len(parts) != 1:
        raise BrokenRecordError(
            f"it describes {len(parts)} photos and has the name of one: give the JSON file a name of its own, beside "
            "the photos"
        )
    return next(iter(parts.values()))


def file_name(path: str) -> str:
    """The file's name at the end of a path or address."""
    return PurePosixPath(unquote(path).replace("\\", "/")).name


def not_read(kind: object) -> BrokenRecordError:
    """The error for a shape whose area is not read."""
    return BrokenRecordError(f"a shape of type {kind!r:.40} is not read: draw it as a polygon")
