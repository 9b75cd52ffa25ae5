"""V7's Darwin JSON 2.0 and 1.0, a file for each photo.

    {"version": "2.0", "item": {"name": "a.jpg", "slots": [{"type": "image", "width": 640, "height": 480}]},
     "annotations": [{"polygon": {"paths": [[{"x": 1, "y": 2}, ...], ...]}, "bounding_box": {"x", "y", "w", "h"}},
                     {"ellipse": {"center": {"x", "y"}, "radius": {"x", "y"}, "angle": 0}},
                     {"id": "i", "mask": {}},
                     {"raster_layer": {"dense_rle": [value, count, ...], "mask_annotation_ids_mapping": {"i": 1},
                                       "total_pixels": 307200}}, ...]}

Of the paths of a polygon, those inside others are holes. Masks share one raster layer: pairs of a value and how often
it follows, row by row; 0 is no mask. Version 1.0 has `image` for `item`, `path` and `additional_paths` in `polygon`,
and `complex_polygon`, whose `path` is a list of paths.

Sources: https://docs.v7labs.com/reference/darwin-json, https://docs.v7labs.com/reference/legacy-darwin-json-10, and for
the raster layer https://github.com/v7labs/darwin-py, darwin/utils and darwin/importer/formats/coco.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sam_edge.data.numbers import number, photo_size
from sam_edge.data.skips import BrokenRecordError

from .format import Format, PhotoSize, has, not_read, record
from .outlines import ellipse, flat, rectangle
from .pixels import even_odd, placed, run_array

_SHAPES = ("polygon", "complex_polygon", "ellipse", "raster_layer", "bounding_box")  # a polygon has a bounding box too
_NOT_READ = ("cuboid", "table")
_MOST_PIXELS = 1 << 33  # of all masks of a raster layer; each is compared with a value


def _recognizes_1(document: Any) -> bool:
    """Version 1.0 has the members of SA-1B's layout, but other annotations."""
    return (
        has(document, image=dict, annotations=list)
        and bool(document["annotations"])
        and all(has(each, name=str) and "segmentation" not in each for each in document["annotations"])
    )


def _from_item(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    slots = document["item"].get("slots") or []
    kinds = [slot.get("type") for slot in slots]
    if len(kinds) != 1 or kinds[0] not in (None, "image"):
        raise BrokenRecordError(f"its item has slots of type {kinds!r:.60}: only one image is read")
    return _record(document, slots[0])


def _from_image(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    return _record(document, document["image"])


def _record(document: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    size = photo_size(image, "height", "width")
    masks: list[object] = []
    for annotation in document["annotations"]:
        masks += _segmentations(annotation, size)
    return record(size, masks)


def _segmentations(annotation: Mapping[str, Any], size: tuple[int, int]) -> list[object]:
    """The masks of an annotation; none for tags, lines, keypoints and texts, and for what a raster layer has."""
    refused = next((kind for kind in _NOT_READ if kind in annotation), None)
    if refused:
        raise not_read(refused)
    kind = next((each for each in _SHAPES if annotation.get(each) is not None), None)
    if kind is None:
        return []
    shape = annotation[kind]
    if kind == "raster_layer":
        return _layer(shape, size)
    if kind == "bounding_box":
        x, y, width, height = (number(shape[name]) for name in ("x", "y", "w", "h"))
        return [[rectangle(x, y, x + width, y + height)]]
    if kind == "ellipse":
        if number(shape.get("angle") or 0):
            raise not_read("turned ellipse")
        return [[ellipse(_point(shape["center"]), _point(shape["radius"]))]]
    paths = [flat(map(_point, path)) for path in _paths(kind, shape)]
    return [paths if len(paths) == 1 else even_odd(paths, size)]


def _paths(kind: str, shape: Mapping[str, Any]) -> list[Any]:
    if "paths" in shape:
        return list(shape["paths"])
    return list(shape["path"]) if kind == "complex_polygon" else [shape["path"], *shape.get("additional_paths", ())]


def _point(values: Mapping[str, object]) -> tuple[float, float]:
    return number(values["x"]), number(values["y"])


def _layer(layer: Mapping[str, Any], size: tuple[int, int]) -> list[object]:
    """The masks of a raster layer, each cut out of the rows that it lies in."""
    pairs = layer["dense_rle"]
    counts = run_array(pairs[1::2], math.prod(size))
    values, numbers = np.unique([number(value) for value in pairs[::2]], return_inverse=True)
    pixels = np.repeat(numbers.astype(np.uint32), counts).reshape(size)
    starts = np.cumsum(counts) - counts
    parts = []
    for wanted in sorted({number(value) for value in layer["mask_annotation_ids_mapping"].values()} - {0.0}):
        which = int(np.searchsorted(values, wanted))
        mine = np.flatnonzero((numbers == which) & (counts > 0))
        if which < len(values) and values[which] == wanted and len(mine):
            top, bottom = starts[mine[0]] // size[1], (starts[mine[-1]] + counts[mine[-1]] - 1) // size[1] + 1
            parts.append((which, int(top), int(bottom)))
    if sum(bottom - top for _, top, bottom in parts) * size[1] > _MOST_PIXELS:
        raise BrokenRecordError(f"its raster layer has {len(parts)} masks, too many for a photo of this size")
    return [placed(pixels[top:bottom] == which, (0, top), size) for which, top, bottom in parts]


FORMATS = (
    Format("V7 Darwin", lambda document: has(document, item=dict, annotations=list), _from_item),
    Format("V7 Darwin 1.0", _recognizes_1, _from_image),
)
