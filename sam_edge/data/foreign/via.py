"""VGG Image Annotator (VIA) 1 and 2: a project, or its exported annotations; both describe several photos.

    {"_via_img_metadata": {"a.jpg51234": {"filename": "a.jpg", "size": 51234, "regions": [
        {"shape_attributes": {"name": "polygon", "all_points_x": [...], "all_points_y": [...]}}, ...]}}}

Exported annotations are the object in `_via_img_metadata` alone; version 1 has an object of `regions` by number.
Shapes are `polygon`, `rect` (x, y, width, height), `circle` (cx, cy, r) and `ellipse` (cx, cy, rx, ry and, since 2.0.9,
theta in radians), in pixels; `polyline` and `point` have no area. VIA does not store the photo's size.

Source: https://www.robots.ox.ac.uk/~vgg/software/via/ and https://gitlab.com/vgg/via.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam_edge.data.numbers import number
from sam_edge.data.skips import BrokenRecordError

from .format import Format, PhotoSize, file_name, has, not_read, one_of, record
from .outlines import ellipse, rectangle

_PROJECT = "_via_img_metadata"
_NO_AREA = ("polyline", "point")


def _recognizes(document: Any) -> bool:
    if has(document, **{_PROJECT: dict}):
        return True
    return (
        isinstance(document, dict)
        and bool(document)
        and all(has(each, filename=str) and isinstance(each.get("regions"), list | dict) for each in document.values())
    )


def _split(document: dict[str, Any]) -> dict[str, Any]:
    entries: dict[str, Any] = document.get(_PROJECT, document)
    return {file_name(each["filename"]): {key: each} for key, each in entries.items()}


def _from_project(document: dict[str, Any], photo_size: PhotoSize) -> dict[str, Any]:
    (entry,) = one_of(_split(document)).values()
    regions = entry["regions"]
    shapes = [each["shape_attributes"] for each in (regions.values() if isinstance(regions, dict) else regions)]
    outlines = [corners for shape in shapes if (corners := _corners(shape)) is not None]
    return record(photo_size(), [[corners] for corners in outlines])


def _corners(shape: Mapping[str, Any]) -> list[float] | None:
    """x, y, x, y, ... of a shape's outline; None for points and lines, which have no area."""

    def values(*names: str) -> list[float]:
        return [number(shape[name]) for name in names]

    kind = shape["name"]
    if kind == "polygon":
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise BrokenRecordError("a polygon has not as many x as y")
        return [value for x, y in zip(xs, ys, strict=True) for value in (number(x), number(y))]
    if kind == "rect":
        x, y, width, height = values("x", "y", "width", "height")
        return rectangle(x, y, x + width, y + height)
    if kind == "circle":
        x, y, radius = values("cx", "cy", "r")
        return ellipse((x, y), (radius, radius))
    if kind == "ellipse":
        x, y, across, down = values("cx", "cy", "rx", "ry")
        return ellipse((x, y), (across, down), number(shape.get("theta") or 0))
    if kind in _NO_AREA:
        return None
    raise not_read(kind)


FORMATS = (Format("VGG Image Annotator", _recognizes, _from_project, _split),)
