"""Masks of pixels, and polygons with holes, as COCO's run-length encodings."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sam_edge.data.numbers import integer
from sam_edge.data.polygons import polygon_rle
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.arrays import Mask
from sam_edge_runtime.automatic import rle as runs
from sam_edge_runtime.automatic.rle import LARGEST_MASK, Rle


def even_odd(polygons: Sequence[list[float]], size: tuple[int, int]) -> Rle:
    """What an odd number of polygons covers: outlines and their holes, and islands in the holes.

    Args:
        polygons: x, y, x, y, ... each, in pixels.
        size: (H, W) of the photo.

    Raises:
        BrokenRecordError: see `polygon_rle`.
    """
    changes = []
    for polygon in polygons:
        drawn, _ = polygon_rle([polygon], size)
        changes.append(np.cumsum(runs.decompress(drawn["counts"]))[:-1])
    # Where two masks change at one pixel, their symmetric difference does not.
    places, times = np.unique(np.concatenate(changes), return_counts=True)
    lengths = runs.lengths_between(places[times % 2 == 1], math.prod(size))
    return {"size": list(size), "counts": runs.compress(lengths)}


def placed(part: Mask, at: tuple[int, int], size: tuple[int, int]) -> Rle:
    """A part (h, w) of a mask whose first pixel lies at x, y of a photo of (H, W) `size`.

    Raises:
        BrokenRecordError: the part reaches beyond the photo.
    """
    (height, width), (x, y) = part.shape, at
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise BrokenRecordError(f"its mask of {width}x{height} pixels at {x}, {y} reaches beyond the photo")
    return {"size": list(size), "counts": runs.compress(runs.run_lengths_of_part(part.T, at, size))}


def png_mask(content: bytes, size: tuple[int, int]) -> Mask:
    """The mask (h, w) in a PNG: what is not transparent or, without transparency, what is not black.

    Raises:
        BrokenRecordError: it is damaged, or larger than the photo of (H, W) `size`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.height > size[0] or picture.width > size[1]:
                raise BrokenRecordError(f"a bitmap of {picture.width}x{picture.height} pixels is larger than the photo")
            picture.load()
            wanted = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else picture.convert("L")
            return np.asarray(wanted) > 0
    except BrokenRecordError:
        raise
    except Exception as error:  # a damaged PNG can raise anything
        raise BrokenRecordError(f"the data of a bitmap are damaged ({type(error).__name__})") from error


def from_rows(lengths: object, size: tuple[int, int]) -> Mask:
    """A mask (H, W) from run lengths row by row, zeros first; a text of numbers with commas between is read too.

    Raises:
        BrokenRecordError: they are no run lengths, or do not cover `size` exactly.
    """
    if isinstance(lengths, str):
        lengths = lengths.split(",")
    if not isinstance(lengths, list):
        raise BrokenRecordError("its run lengths are no list")
    values = run_array(lengths, math.prod(size))
    return np.repeat(np.arange(len(values)) % 2 == 1, values).reshape(size)


def run_array(lengths: Sequence[object], pixels: int) -> Any:
    """Run lengths (R) as int64.

    Raises:
        BrokenRecordError: one is no integer of 0 or more, or they do not add up to `pixels`, or these are too many.
    """
    values = [integer(length) for length in lengths]
    if any(value is None or not 0 <= value <= pixels for value in values):
        raise BrokenRecordError("one of its run lengths is no integer that the mask has room for")
    total = sum(value for value in values if value is not None)
    if total != pixels or pixels > LARGEST_MASK:
        raise BrokenRecordError(f"its run lengths cover {total} pixels, and the mask has {pixels}")
    return np.array(values, np.int64)
