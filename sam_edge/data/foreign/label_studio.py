"""Label Studio's JSON: a list of tasks, each about one photo, or one task.

    [{"data": {"image": "/data/upload/1/1a2b3c4d-a.jpg"},
      "annotations": [{"was_cancelled": false, "ground_truth": false, "result": [
        {"type": "polygonlabels", "original_width": 640, "original_height": 480, "image_rotation": 0,
         "value": {"points": [[x, y], ...]}}, ...]}]}, ...]

Coordinates are percentages of the photo's width and height. Of several annotators' results the ground truth counts, or
else the first that was not cancelled. A file that was uploaded to Label Studio got eight hexadecimal digits and a
hyphen before its name; photos are found with and without them.

Sources: https://labelstud.io/guide/task_format and labelstud.io/tags/ polygonlabels, rectanglelabels, ellipselabels,
brushlabels. A brush's `rle` holds bytes of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack: a bit
stream with the number of values (32 bits), the bits of a value less one (5), and four lengths of counts less one (4
each). Then, until all values are there: a bit, the index of a length (2), a count less one of that length, and either
one value that is repeated (bit 1) or that many values (bit 0). The values are the pixels' R, G, B, A row by row; A is
the mask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sam_edge.data.numbers import number, photo_size
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.arrays import Mask
from sam_edge_runtime.automatic.rle import LARGEST_MASK

from .format import Format, PhotoSize, file_name, has, is_list_of, not_read, one_of, record
from .outlines import ellipse, flat, rectangle, turned
from .pixels import placed

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_NOT_READ = ("bitmask", "vector")  # shapes with an area; others such as choices and texts have none
_CHANNELS, _WORD_BITS = 4, 8
_OPAQUE = 128  # of 0..255: a pixel at the brush's edge belongs to the mask from half its opacity on


def _split(document: Any) -> dict[str, Any]:
    tasks = document if isinstance(document, list) else [document]
    parts: dict[str, Any] = {}
    for task in tasks:
        for name in _names(task):
            parts.setdefault(name, task)
    return parts


def _names(task: Mapping[str, Any]) -> list[str]:
    """File names of a task's photo, the longer first."""
    addresses = [each for each in (task.get("file_upload"), *task["data"].values()) if isinstance(each, str)]
    names = [file_name(address.partition("?d=")[2] or address) for address in addresses]
    short = [match[1] for name in names if (match := _UPLOADED.fullmatch(name))]
    return [*names, *short]


def _from_tasks(document: Any, size_of_photo: PhotoSize) -> dict[str, Any]:
    tasks = document if isinstance(document, list) else [document]
    task = one_of({str(place): each for place, each in enumerate(tasks)})
    results = _results(task)
    shapes = [each for each in results if _kind(each)]
    size = photo_size(shapes[0], "original_height", "original_width") if shapes else size_of_photo()
    return record(size, [_segmentation(each, size) for each in shapes])


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    annotations = [each for each in task["annotations"] if not each.get("was_cancelled")]
    chosen = next((each for each in annotations if each.get("ground_truth")), None) or next(iter(annotations), None)
    return [] if chosen is None else [each for each in chosen["result"] if isinstance(each, dict)]


def _kind(result: Mapping[str, Any]) -> str:
    """The shape of a result; empty if it has no area. Types are called `polygon` or `polygonlabels`."""
    kind = str(result.get("type")).removesuffix("labels")
    value = result.get("value")
    if isinstance(value, dict) and "rle" in value:  # magic wands' too
        return "brush"
    return kind if kind in ("polygon", "rectangle", "ellipse", *_NOT_READ) else ""


def _segmentation(result: Mapping[str, Any], size: tuple[int, int]) -> object:
    kind, value = _kind(result), result["value"]
    if kind in _NOT_READ:
        raise not_read(result.get("type"))
    if number(result.get("image_rotation") or 0):
        raise BrokenRecordError("its photo was turned in Label Studio: turn it back there")
    if photo_size(result, "original_height", "original_width") != size:
        raise BrokenRecordError("its results give the photo different sizes")
    if kind == "brush":
        return placed(_decoded(value["rle"], size), (0, 0), size)
    height, width = size

    def scaled(x: object, y: object) -> tuple[float, float]:
        return number(x) * width / 100, number(y) * height / 100

    if kind == "polygon":
        return [flat(scaled(x, y) for x, y in value["points"])]
    angle = math.radians(number(value.get("rotation") or 0))
    at = scaled(value.get("x"), value.get("y"))
    if kind == "rectangle":
        across, down = scaled(value["width"], value["height"])
        return [turned(rectangle(*at, at[0] + across, at[1] + down), at, angle)]
    return [ellipse(at, scaled(value["radiusX"], value["radiusY"]), angle)]


class _Bits:
    """Numbers out of a stream of bits, the highest first."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def read(self, bits: int) -> int:
        """The next number of at most 32 bits."""
        start, skipped = divmod(self._place, 8)
        window = self._content[start : start + 5]
        self._place += bits
        if self._place > 8 * len(self._content):
            raise BrokenRecordError("the RLE of a brush ends too early")
        return int.from_bytes(window, "big") >> (8 * len(window) - skipped - bits) & ((1 << bits) - 1)


def _decoded(content: object, size: tuple[int, int]) -> Mask:
    """The mask (H, W) of a brush."""
    if not isinstance(content, list):
        raise BrokenRecordError("the RLE of a brush is no list of bytes")
    stream, pixels = _Bits(bytes(content)), math.prod(size)
    values, word = stream.read(32), stream.read(5) + 1
    if values != _CHANNELS * pixels or word != _WORD_BITS or pixels > LARGEST_MASK:
        raise BrokenRecordError(f"the RLE of a brush holds {values} values of {word} bits, not {pixels} pixels' RGBA")
    lengths = [stream.read(4) + 1 for _ in range(4)]
    mask = np.zeros(pixels, np.bool_)
    start = 0
    while start < values:
        repeated = stream.read(1)
        stop = start + stream.read(lengths[stream.read(2)]) + 1
        if stop > values:
            raise BrokenRecordError("the RLE of a brush covers more than the photo")
        if repeated:
            # Of the pixels whose A lies between start and stop.
            mask[start // _CHANNELS : stop // _CHANNELS] = stream.read(_WORD_BITS) >= _OPAQUE
        else:
            for place in range(start, stop):
                value = stream.read(_WORD_BITS)
                if place % _CHANNELS == _CHANNELS - 1:
                    mask[place // _CHANNELS] = value >= _OPAQUE
        start = stop
    return mask.reshape(size)


FORMATS = (
    Format(
        "Label Studio",
        lambda document: is_list_of(document, "data", dict) or has(document, data=dict, annotations=list),
        _from_tasks,
        _split,
    ),
)
