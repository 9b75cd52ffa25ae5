"""Numbers as tools write them into JSON: 640, 640.0 or "640"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from sam_edge_runtime.photo.formats import LARGEST_LIMIT

from .skips import BrokenRecordError

_SURELY_FINITE = 1e300
_LONGEST = 40  # characters of a number in quotes


def number(value: object) -> float:
    """A finite number.

    Raises:
        BrokenRecordError: it is something else.
    """
    if type(value) in (float, int) and -_SURELY_FINITE < value < _SURELY_FINITE:  # type: ignore[operator]  # nearly all
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, int | float | str) and not isinstance(value, bool) and not _is_long(value):
        with suppress(OverflowError, ValueError):  # an integer beyond the range of floats; a text that is no number
            converted = float(value)
            if math.isfinite(converted):
                return converted
    raise BrokenRecordError(f"{value!r:.40} stands where a number should")


def integer(value: object) -> int | None:
    """An integer, also from a number such as 640.0 or a text such as "640"; None for anything else."""
    if type(value) is int:
        return value
    with suppress(BrokenRecordError):
        converted = number(value)
        if converted.is_integer():
            return int(converted)
    return None


def photo_size(document: Mapping[str, object], height: str = "height", width: str = "width") -> tuple[int, int]:
    """(H, W) in pixels of a photo, from two members of an object.

    Raises:
        BrokenRecordError: one is no integer above 0, or no photo of that size could be read.
    """
    sides = []
    for name in (height, width):
        side = integer(document.get(name))
        if side is None or side < 1:
            raise BrokenRecordError(f"its JSON gives the photo the {name} {document.get(name)!r:.40}")
        sides.append(side)
    if sides[0] * sides[1] > LARGEST_LIMIT:
        raise BrokenRecordError(f"its JSON gives the photo more pixels than any photo may have ({LARGEST_LIMIT:,})")
    return sides[0], sides[1]


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST
