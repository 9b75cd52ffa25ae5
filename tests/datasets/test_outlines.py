"""Outlines drawn by pycocotools are the masks they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage

from sam_edge.data.foreign.pixels import even_odd
from sam_edge.datasets.outlines import _loops, outlines
from sam_edge_runtime.automatic import rle


def drawn(polygons: list, size: tuple[int, int]) -> np.ndarray:
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *size))).astype(bool)


@pytest.mark.parametrize("seed", range(40))
def test_all_outlines_together_are_exactly_the_mask(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 24, 2)
    mask = rng.random((height, width)) < rng.random()
    mask[0, 0] = True
    loops = [[float(value) for value in loop.ravel()] for loop in _loops(mask)]
    assert np.array_equal(rle.decode(even_odd(loops, (int(height), int(width)))), mask)


@pytest.mark.parametrize("seed", range(10))
def test_outer_outlines_are_the_mask_with_its_holes_filled(seed):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random((60, 80)), 3) > 0.5
    mask = ndimage.binary_opening(smooth, np.ones((3, 3)))  # no pixels that touch at a corner alone
    mask = ndimage.binary_closing(np.pad(mask, 4), np.ones((3, 3)))
    polygons, holes = outlines(mask)
    filled = ndimage.binary_fill_holes(mask)
    assert np.array_equal(drawn(polygons, mask.shape), filled)
    assert holes == ndimage.label(filled & ~mask)[1]
    assert len(polygons) == ndimage.label(filled)[1]


def test_a_rectangle_has_four_corners():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    ((polygon,), holes) = outlines(mask)
    assert holes == 0
    assert {(x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)} == {(2, 1), (7, 1), (7, 4), (2, 4)}


def test_an_empty_mask_has_none():
    assert outlines(np.zeros((3, 4), bool)) == ([], 0)
