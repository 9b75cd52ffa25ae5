"""Polygons as run-length encodings, drawn by pycocotools as COCO's own are."""

from __future__ import annotations

from typing import Any

from sam_edge_runtime.automatic import rle as runs
from sam_edge_runtime.automatic.rle import Rle

from .numbers import number
from .skips import BrokenRecordError

_LEAST = 6  # numbers of a polygon: three corners; pycocotools takes four for a box


def polygon_rle(segmentation: list[Any], size: tuple[int, int]) -> tuple[Rle, int]:
    """The union of polygons in compressed form, and its area in pixels.

    Args:
        segmentation: `[[x, y, x, y, ...], ...]` as COCO has it, one such list alone, or a list of `[x, y]`; in pixels.
        size: (H, W) of the photo.

    Raises:
        BrokenRecordError: not such a list, or a polygon with fewer than three corners or far outside of the photo.
    """
    from pycocotools import mask as coco  # noqa: PLC0415 - SA-1B itself has no polygons

    polygons = [_flat(polygon, size) for polygon in _polygons(segmentation)]
    if not polygons:
        raise BrokenRecordError("its segmentation is an empty list")
    counts: bytes = coco.merge(coco.frPyObjects(polygons, *size))["counts"]
    rle: Rle = {"size": list(size), "counts": counts.decode("ascii")}
    return rle, runs.area(rle)


def _polygons(segmentation: list[Any]) -> list[list[Any]]:
    if not all(isinstance(part, list) for part in segmentation):
        return [segmentation]  # one flat list
    if segmentation and all(len(part) == 2 for part in segmentation):
        return [[value for point in segmentation for value in point]]  # a list of points
    return segmentation


def _flat(polygon: list[Any], size: tuple[int, int]) -> list[float]:
    values = [number(value) for value in polygon]
    if len(values) < _LEAST or len(values) % 2:
        raise BrokenRecordError(f"its polygon has {len(values)} numbers: x, y of at least three corners are needed")
    height, width = size
    xs, ys = values[::2], values[1::2]
    if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
        raise BrokenRecordError("its polygon lies far outside of the photo")
    outline = sum(max(abs(xs[k] - xs[k - 1]), abs(ys[k] - ys[k - 1])) for k in range(len(xs)))
    if outline > 4 * (height + 1) * (width + 1):  # pycocotools allocates by it
        raise BrokenRecordError("its polygon's outline is longer than any in the photo can be")
    return values
