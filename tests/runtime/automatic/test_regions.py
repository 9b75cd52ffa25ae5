"""Small holes and islands against the reference's own function, which asks OpenCV."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.regions import box_of, without_small_regions
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
def test_noise_is_mended_as_the_reference_does(size, share, least):
    mask = np.random.default_rng(round(100 * share)).random(size) < share
    wanted, changed = reference(mask, least)
    found, was_changed = without_small_regions(rle.run_lengths(mask), size[0], least)
    assert was_changed == changed
    pixels = rle.decode({"size": list(size), "counts": found.tolist()})
    if least > mask.size:  # of several largest islands each side keeps the first by its own order of pixels
        assert np.count_nonzero(pixels) == np.count_nonzero(wanted)
    else:
        np.testing.assert_array_equal(pixels, wanted)
    np.testing.assert_array_equal(found, rle.run_lengths(pixels))


def test_regions_that_touch_at_a_corner_are_one():
    mask = np.zeros((6, 6), np.bool_)
    mask[1, 1] = mask[2, 2] = mask[3, 1] = True
    lengths = rle.run_lengths(mask)
    found, changed = without_small_regions(lengths, 6, 3)
    assert not changed
    np.testing.assert_array_equal(found, lengths)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_box_of_runs(share):
    mask = np.random.default_rng(1).random((23, 31)) < share
    y, x = np.nonzero(mask)
    wanted = (x.min(), y.min(), x.max(), y.max()) if len(x) else (0, 0, 0, 0)
    assert box_of(rle.run_lengths(mask), 23) == wanted
