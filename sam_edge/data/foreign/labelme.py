"""LabelMe (labelme/label_file.py), whose layout X-AnyLabeling shares, and ISAT with segment anything.

ISAT: github.com/yatengLG/ISAT_with_segment_anything, ISAT/annotation.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sam_edge.data.numbers import number, photo_size

from .format import Format, PhotoSize, has, not_read, record
from .outlines import ellipse, flat, rectangle

_NO_AREA = ("point", "points", "line", "linestrip")


def _from_labelme(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    objects: dict[object, list[list[float]]] = {}
    for index, shape in enumerate(document["shapes"]):
        corners = _shape_corners(shape)
        if corners is not None:
            group = shape.get("group_id")
            key = ("alone", index) if group is None else (str(group), str(shape.get("label")))
            objects.setdefault(key, []).append(corners)
    return record(photo_size(document, "imageHeight", "imageWidth"), objects.values())


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
