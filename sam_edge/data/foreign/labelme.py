"""LabelMe (labelme/label_file.py), whose layout X-AnyLabeling shares, and ISAT with segment anything.

ISAT: github.com/yatengLG/ISAT_with_segment_anything, ISAT/annotation.py.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from sam_edge.data.numbers import number, photo_size
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.automatic.rle import Rle

from .format import Format, PhotoSize, has, not_read, record
from .outlines import ellipse, flat, rectangle
from .pixels import placed, png_mask

CROWD = "iscrowd"  # a flag of ours
_NO_AREA = ("point", "points", "line", "linestrip")


def _from_labelme(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    size = photo_size(document, "imageHeight", "imageWidth")
    objects: dict[object, list[Any]] = {}
    members: dict[object, dict[str, Any]] = {}
    for index, shape in enumerate(document["shapes"]):
        is_mask = shape.get("shape_type") == "mask"
        outline = _mask(shape, size) if is_mask else _shape_corners(shape)
        if outline is None:
            continue
        group = None if is_mask else shape.get("group_id")
        key = ("alone", index) if group is None else (str(group), str(shape.get("label")))
        objects.setdefault(key, []).append(outline)
        members[key] = {"name": shape.get("label"), "iscrowd": int(bool((shape.get("flags") or {}).get(CROWD)))}
    segmentations = (parts[0] if isinstance(parts[0], dict) else parts for parts in objects.values())
    return record(size, segmentations, members.values())


def _mask(shape: Mapping[str, Any], size: tuple[int, int]) -> Rle:
    """A shape of type `mask`: a PNG, and the first and the last pixel of the rectangle that it covers."""
    (left, top), (right, bottom) = ((round(number(x)), round(number(y))) for x, y in shape["points"])
    part = png_mask(base64.b64decode(shape["mask"], validate=True), size)
    if part.shape != (bottom - top + 1, right - left + 1):
        raise BrokenRecordError(f"its mask has the shape {part.shape}, and its points another")
    return placed(part, (left, top), size)


def _shape_corners(shape: Mapping[str, Any]) -> list[float] | None:
    """x, y, x, y, ... of a shape's outline; None for points and lines, which have no area."""
    kind = shape.get("shape_type", "polygon")
    points = [(number(x), number(y)) for x, y in shape["points"]]
    if kind in ("polygon", "rotation"):
        return flat(points)
    if kind == "rectangle" and len(points) in (2, 4):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return rectangle(min(xs), min(ys), max(xs), max(ys))
    if kind == "circle" and len(points) == 2:
        centre, edge = points
        radius = math.dist(centre, edge)
        return ellipse(centre, (radius, radius))
    if kind in _NO_AREA:
        return None
    raise not_read(kind)


def _from_isat(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    objects: dict[object, list[list[float]]] = {}
    for each in document["objects"]:
        corners = flat(each["segmentation"])
        objects.setdefault((str(each.get("group")), str(each.get("category"))), []).append(corners)
    return record(photo_size(document["info"], "height", "width"), objects.values())


FORMATS = (
    Format("LabelMe or X-AnyLabeling", lambda document: has(document, shapes=list), _from_labelme),
    Format("ISAT", lambda document: has(document, info=dict, objects=list), _from_isat),
)
