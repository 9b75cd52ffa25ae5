"""Areas, centres and hulls from run lengths equal those of decoded masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from sam_edge.datasets.mask_shapes import mask_shapes
from sam_edge_runtime.automatic import rle


def shapes_of(*masks: np.ndarray):
    return mask_shapes([rle.encode(mask) for mask in masks], masks[0].shape)


def hull_of_squares(mask: np.ndarray) -> float:
    """Area of the convex hull of the pixels' corners, by qhull."""
    y, x = np.nonzero(mask)
    corners = [np.stack([x + right, y + down], axis=1) for right in (0, 1) for down in (0, 1)]
    return float(ConvexHull(np.concatenate(corners)).volume)


@pytest.mark.parametrize("seed", range(30))
def test_shapes_equal_those_of_pixels(seed):
    rng = np.random.default_rng(seed)
    height, width, count = (int(value) for value in rng.integers(1, 16, 3))
    masks = rng.random((count, height, width)) < rng.random((count, 1, 1))
    masks[0, rng.integers(height), rng.integers(width)] = True
    found = shapes_of(*masks)
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks]
    for mask, centre, hull in zip(masks, found.centres, found.hull_areas, strict=True):
        y, x = np.nonzero(mask)
        assert hull == pytest.approx(hull_of_squares(mask) if len(x) else 0.0)
        assert np.allclose(centre, [x.mean() + 0.5, y.mean() + 0.5] if len(x) else 0.0)


def test_rectangles_lines_and_pixels_are_their_own_hull():
    masks = np.zeros((4, 9, 7), bool)
    masks[0, 2:6, 1:7] = masks[1, :, 3] = masks[2, 4, :] = masks[3, 8, 6] = True
    found = shapes_of(*masks)
    assert found.hull_areas.tolist() == found.areas.tolist() == [24, 9, 7, 1]
    assert found.centres[3].tolist() == [6.5, 8.5]


def test_a_ring_and_two_islands_are_concave():
    ring, islands = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    ring[2:8, 2:8] = False
    islands[0, 0] = islands[9, 9] = True
    found = shapes_of(ring, islands)
    assert found.hull_areas.tolist() == [100, 19]  # a strip of two squares along the diagonal
    assert found.areas.tolist() == [64, 2]


def test_a_disc_with_a_spike_is_exact():
    """Points of the disc are on the chain until the spike hides them, one after the other."""
    y, x = np.mgrid[:200, :260]
    mask = (x - 60) ** 2 + (y - 140) ** 2 < 58**2
    mask[:140, 250] = True
    assert shapes_of(mask).hull_areas[0] == pytest.approx(hull_of_squares(mask))


def test_no_masks():
    found = mask_shapes([], (4, 5))
    assert found.areas.shape == found.hull_areas.shape == (0,)
    assert found.centres.shape == (0, 2)
