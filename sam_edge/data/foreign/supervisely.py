"""Supervisely's JSON, a file for each photo: `ann/a.jpg.json` beside `img/a.jpg`.

    {"size": {"height": 480, "width": 640},
     "objects": [{"geometryType": "polygon", "points": {"exterior": [[x, y], ...], "interior": [[[x, y], ...], ...]}},
                 {"geometryType": "rectangle", "points": {"exterior": [[left, top], [right, bottom]], "interior": []}},
                 {"geometryType": "bitmap", "bitmap": {"data": "eJwB...", "origin": [x, y]}}, ...]}

Coordinates number pixels: exported corners are rounded down, so a corner is taken at the middle of its pixel, and a
rectangle includes its right and bottom pixels. A bitmap's `data` is base64 of zlib's compression of a PNG whose opaque
pixels are the mask; `origin` is its first pixel.

Sources: https://developer.supervisely.com/getting-started/supervisely-annotation-format/objects and
https://developer.supervisely.com/app-development/advanced/coordinate-system.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

from sam_edge.data.numbers import integer, photo_size
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.arrays import Mask

from .format import Format, PhotoSize, has, not_read, record
from .outlines import flat, rectangle
from .pixels import even_odd, placed, png_mask

_NO_AREA = ("point", "line", "graph")
_MIDDLE = 0.5
_LARGEST_PNG = 1 << 26  # bytes; a mask of the largest photo has far fewer


def _from_annotation(document: dict[str, Any], _: PhotoSize) -> dict[str, Any]:
    size = photo_size(document["size"], "height", "width")
    return record(size, [_segmentation(each, size) for each in document["objects"] if _kind(each) not in _NO_AREA])


def _kind(figure: Mapping[str, Any]) -> object:
    return figure.get("geometryType") or ("bitmap" if figure.get("bitmap") else None)


def _segmentation(figure: Mapping[str, Any], size: tuple[int, int]) -> object:
    kind = _kind(figure)
    if kind == "bitmap":
        x, y = map(integer, figure["bitmap"]["origin"])
        if x is None or y is None:
            raise BrokenRecordError("the origin of a bitmap is no pair of integers")
        return placed(_decoded(figure["bitmap"]["data"], size), (x, y), size)
    if kind == "rectangle":
        corners = flat(figure["points"]["exterior"])
        xs, ys = corners[::2], corners[1::2]
        return [rectangle(min(xs), min(ys), max(xs) + 1, max(ys) + 1)]
    if kind == "polygon":
        polygons = [figure["points"]["exterior"], *figure["points"].get("interior", ())]
        shifted = [[value + _MIDDLE for value in flat(polygon)] for polygon in polygons]
        return shifted if len(shifted) == 1 else even_odd(shifted, size)
    raise not_read(kind)


def _decoded(data: str, size: tuple[int, int]) -> Mask:
    """The mask (h, w) of a bitmap."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(data, validate=True), _LARGEST_PNG)
    except Exception as error:  # damaged data can raise anything
        raise BrokenRecordError(f"the data of a bitmap are damaged ({type(error).__name__})") from error
    return png_mask(content, size)


FORMATS = (Format("Supervisely", lambda document: has(document, size=dict, objects=list), _from_annotation),)
