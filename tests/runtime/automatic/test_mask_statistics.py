"""Counts, boxes and runs from low-resolution logits against the full-size mask, for every way a photo can lie."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.mask_statistics import Crossings
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import upscale

SIDE = 256
# Photos larger than the frame, smaller than it, smaller than its low-resolution mask, narrow, and of the frame's size.
SIZES = [(375, 562), (562, 375), (100, 120), (40, 21), (9, 300), (256, 256), (1, 1)]
OFFSET = 1.0


def blobs(count: int, seed: int) -> np.ndarray:
    """Smooth logits (count, S/4, S/4), steep and flat ones, with the threshold's line all over; one is empty."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(count, SIDE // 4, SIDE // 4)))
    fall = np.hypot(*np.meshgrid(np.fft.rfftfreq(SIDE // 4), np.fft.fftfreq(SIDE // 4)))
    smooth = np.fft.irfft2(spectrum / (0.02 + fall) ** 2)
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    logits = smooth * rng.uniform(0.5, 12, (count, 1, 1)) - rng.uniform(-3, 6, (count, 1, 1))
    logits[0] = -5
    return logits.astype(np.float32)


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def seen(request):
    """Crossings, logits and what `upscale` makes of them."""
    frame = Frame(SIDE, request.param)
    low_res = blobs(12, seed=request.param[0])
    return Crossings(frame), low_res, upscale(low_res, frame)


def test_stability_is_that_of_the_full_size_masks(seen):
    crossings, low_res, logits = seen
    above, below = (np.count_nonzero(logits > bound, axis=(1, 2)) for bound in (OFFSET, -OFFSET))
    wanted = above / np.maximum(below, 1)
    np.testing.assert_allclose(crossings.stability(low_res, 0.0, OFFSET), wanted, atol=1e-6)


def test_a_score_below_the_least_may_be_wrong_but_stays_below(seen):
    crossings, low_res, _ = seen
    exact = crossings.stability(low_res, 0.0, OFFSET)
    least = float(np.median(exact))
    found = crossings.stability(low_res, 0.0, OFFSET, least)
    np.testing.assert_array_equal(found >= least, exact >= least)
    np.testing.assert_array_equal(found[found >= least], exact[exact >= least])


def test_boxes_are_those_of_the_full_size_masks(seen):
    crossings, low_res, logits = seen
    found = crossings.boxes(low_res, 0.0)
    for box, mask in zip(found.tolist(), logits > 0, strict=True):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max(), y.max()] if len(x) else [0, 0, 0, 0])


def test_runs_are_those_of_the_full_size_masks(seen):
    crossings, low_res, logits = seen
    for one, mask in zip(low_res, logits > 0, strict=True):
        np.testing.assert_array_equal(crossings.run_lengths(one, 0.0), rle.run_lengths(mask))


def test_runs_of_a_crop_lie_where_it_was_cut_from():
    frame = Frame(SIDE, (60, 80))
    low_res = blobs(12, seed=3)
    for one, mask in zip(low_res, upscale(low_res, frame) > 0, strict=True):
        whole = np.zeros((100, 120), np.bool_)
        whole[30:90, 17:97] = mask
        found = Crossings(frame).run_lengths(one, 0.0, (17, 30), (100, 120))
        np.testing.assert_array_equal(found, rle.run_lengths(whole))


def test_a_full_mask_is_one_run_behind_an_empty_one():
    full = np.full((SIDE // 4, SIDE // 4), 3, np.float32)
    assert Crossings(Frame(SIDE, (50, 70))).run_lengths(full, 0.0).tolist() == [0, 3500]


def test_masks_of_another_frame_are_refused():
    with pytest.raises(UsageError, match="do not belong to a frame of 256"):
        Crossings(Frame(SIDE, (50, 70))).boxes(np.zeros((1, 32, 32), np.float32), 0.0)
