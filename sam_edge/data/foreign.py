"""JSON of other annotation tools, beside a photo: converted to SA-1B's layout, or named with what to do.

`FORMATS` is the table of what is recognized. Polygons stay polygons here (`polygons` draws them).

Sources: segment_anything scripts/amg.py; cocodataset.org/#format-data; LabelMe labelme/label_file.py, whose layout
X-AnyLabeling shares; ISAT_with_segment_anything ISAT/annotation.py; documentation of the others' exports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .numbers import number
from .skips import BrokenRecordError

_CIRCLE_CORNERS = 64
_COCO = "export COCO with its masks there, and lay its instances.json beside the photos"


@dataclass(frozen=True)
class Format:
    """A tool's layout.

    Attributes:
        tool: its name.
        recognizes: whether a JSON document has the layout.
        convert: gives the document in SA-1B's layout; None if it is not read.
        remedy: what to do where it is not read.
    """

    tool: str
    recognizes: Callable[[Any], bool]
    convert: Callable[[Any], dict[str, Any]] | None = None
    remedy: str = _COCO


def to_sa1b(document: object) -> dict[str, Any] | None:
    """A document of another tool in SA-1B's layout; None if its layout is unknown.

    Raises:
        BrokenRecordError: the layout is known and not read, or damaged.
    """
    for each in FORMATS:
        if each.recognizes(document):
            if each.convert is None:
                raise BrokenRecordError(f"its JSON is {each.tool}'s, which is not read: {each.remedy}")
            try:
                return each.convert(document)
            except BrokenRecordError as error:
                raise BrokenRecordError(f"its JSON is {each.tool}'s, and damaged: {error}") from error
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise BrokenRecordError(f"its JSON is {each.tool}'s, and damaged ({error!r:.80})") from error
    return None


def _has(document: Any, **kinds: type) -> bool:
    """Whether a document is an object with members of the given types."""
    return isinstance(document, dict) and all(isinstance(document.get(name), kind) for name, kind in kinds.items())


def _is_list_of(document: Any, name: str, kind: type) -> bool:
    return isinstance(document, list) and bool(document) and all(_has(each, **{name: kind}) for each in document)


def _from_amg(document: list[dict[str, Any]]) -> dict[str, Any]:
    height, width = document[0]["segmentation"]["size"]
    return {"image": {"height": height, "width": width}, "annotations": document}


def _from_coco(document: dict[str, Any]) -> dict[str, Any]:
    images = document["images"]
    if len(images) != 1:
        raise BrokenRecordError(
            f"it describes {len(images)} photos and has the name of one: call it instances.json, beside the photos"
        )
    return {"image": images[0], "annotations": document["annotations"]}


def _from_labelme(document: dict[str, Any]) -> dict[str, Any]:
    objects: dict[object, list[list[float]]] = {}
    for index, shape in enumerate(document["shapes"]):
        corners = _shape_corners(shape)
        if corners is not None:
            group = shape.get("group_id")
            key = ("alone", index) if group is None else (str(group), str(shape.get("label")))
            objects.setdefault(key, []).append(corners)
    size = {"height": document["imageHeight"], "width": document["imageWidth"]}
    return {"image": size, "annotations": [{"segmentation": polygons} for polygons in objects.values()]}


def _shape_corners(shape: Mapping[str, Any]) -> list[float] | None:
    """x, y, x, y, ... of a shape's outline; None for points and lines, which have no area."""
    kind = shape.get("shape_type", "polygon")
    points = [(number(x), number(y)) for x, y in shape["points"]]
    if kind in ("polygon", "rotation"):
        return [value for point in points for value in point]
    if kind == "rectangle" and len(points) in (2, 4):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = (2 * math.pi * step / _CIRCLE_CORNERS for step in range(_CIRCLE_CORNERS))
        return [value for a in angles for value in (x + radius * math.cos(a), y + radius * math.sin(a))]
    if kind in ("point", "points", "line", "linestrip"):
        return None
    raise BrokenRecordError(f"a shape of type {kind!r:.40} is not read: draw it as a polygon")


def _from_isat(document: dict[str, Any]) -> dict[str, Any]:
    objects: dict[object, list[list[float]]] = {}
    for each in document["objects"]:
        corners = [value for x, y in each["segmentation"] for value in (number(x), number(y))]
        objects.setdefault((str(each.get("group")), str(each.get("category"))), []).append(corners)
    info = document["info"]
    size = {"height": info["height"], "width": info["width"]}
    return {"image": size, "annotations": [{"segmentation": polygons} for polygons in objects.values()]}


# In this order: the first that recognizes a document counts.
FORMATS = (
    Format("segment_anything's amg.py", lambda document: _is_list_of(document, "segmentation", dict), _from_amg),
    Format("COCO", lambda document: _has(document, images=list, annotations=list), _from_coco),
    Format("LabelMe or X-AnyLabeling", lambda document: _has(document, shapes=list), _from_labelme),
    Format("ISAT", lambda document: _has(document, info=dict, objects=list), _from_isat),
    Format("Label Studio", lambda d: _is_list_of(d, "data", dict) or _has(d, data=dict, annotations=list)),
    Format("Supervisely", lambda document: _has(document, size=dict, objects=list)),
    Format("VGG Image Annotator", lambda document: _has(document, _via_img_metadata=dict)),
    Format("Labelbox", lambda document: _is_list_of(document, "data_row", dict) or _has(document, data_row=dict)),
    Format("V7 Darwin", lambda document: _has(document, item=dict, annotations=list)),
)
