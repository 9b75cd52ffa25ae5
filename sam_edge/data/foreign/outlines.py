"""Shapes as polygons: x, y, x, y, ... in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sam_edge.data.numbers import number

ELLIPSE_CORNERS = 64


def flat(points: Iterable[Iterable[object]]) -> list[float]:
    """A list of points as one list of numbers.

    Raises:
        BrokenRecordError: something that is no number.
        ValueError: a point without exactly two values.
    """
    return [value for x, y in points for value in (number(x), number(y))]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """A rectangle between the edges of pixels."""
    return [left, top, right, top, right, bottom, left, bottom]


def ellipse(centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> list[float]:
    """An ellipse of radii along x and y, turned clockwise by `angle` in radians."""
    corners: list[float] = []
    for step in range(ELLIPSE_CORNERS):
        a = 2 * math.pi * step / ELLIPSE_CORNERS
        corners += [centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)]
    return turned(corners, centre, angle)


def turned(corners: list[float], pivot: tuple[float, float], angle: float) -> list[float]:
    """A polygon turned clockwise around a point by `angle` in radians; y points down."""
    cos, sin = math.cos(angle), math.sin(angle)
    result: list[float] = []
    for x, y in zip(corners[::2], corners[1::2], strict=True):
        dx, dy = x - pivot[0], y - pivot[1]
        result += [pivot[0] + dx * cos - dy * sin, pivot[1] + dx * sin + dy * cos]
    return result
