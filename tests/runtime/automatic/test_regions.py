"""Small holes and islands are removed as by the reference's function, which uses OpenCV."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.regions import bounding_box, remove_small_regions
from tests.reference import import_segment_anything

pytest.importorskip("cv2")


def reference(mask: np.ndarray, least: int) -> tuple[np.ndarray, bool]:
    import_segment_anything()
    remove = import_module("segment_anything.utils.amg").remove_small_regions
    filled, had_holes = remove(mask, least, mode="holes")
    kept, had_islands = remove(filled, least, mode="islands")
    return kept, had_holes or had_islands


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (1, 50), (50, 1), (2, 2)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("least", [1, 2, 5, 30, 4000])
def test_small_regions_of_noise_are_removed_as_by_the_reference(size, share, least):
    mask = np.random.default_rng(round(100 * share)).random(size) < share
    expected, changed = reference(mask, least)
    lengths, was_changed = remove_small_regions(rle.run_lengths(mask), size[0], least)
    assert was_changed == changed
    pixels = rle.decode({"size": list(size), "counts": lengths.tolist()})
    if least > mask.size:  # of equally large islands each implementation keeps another
        assert np.count_nonzero(pixels) == np.count_nonzero(expected)
    else:
        np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(lengths, rle.run_lengths(pixels))


def test_regions_that_touch_at_a_corner_are_one():
    mask = np.zeros((6, 6), np.bool_)
    mask[1, 1] = mask[2, 2] = mask[3, 1] = True
    lengths = rle.run_lengths(mask)
    result, changed = remove_small_regions(lengths, 6, 3)
    assert not changed
    np.testing.assert_array_equal(result, lengths)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_bounding_box_runs(share):
    mask = np.random.default_rng(1).random((23, 31)) < share
    y, x = np.nonzero(mask)
    expected = (x.min(), y.min(), x.max(), y.max()) if len(x) else (0, 0, 0, 0)
    assert bounding_box(rle.run_lengths(mask), 23) == expected
