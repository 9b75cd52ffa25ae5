"""Stability, boxes and runs from low-resolution logits equal those of the full-size mask, for photos of all shapes."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.mask_statistics import MaskStatistics, stability_score
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM, SAM_2
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import upscale
from tests.reference import import_segment_anything

SIDE = 256
# Photos larger than the frame, smaller than it, smaller than its low-resolution mask, narrow, and of the frame's size.
SIZES = [(375, 562), (562, 375), (100, 120), (40, 21), (9, 300), (256, 256), (1, 1)]
OFFSET = 1.0


def blobs(count: int, seed: int) -> np.ndarray:
    """Smooth logits (count, S/4, S/4), steep and flat ones, with mask outlines everywhere; the first is empty."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(count, SIDE // 4, SIDE // 4)))
    fall = np.hypot(*np.meshgrid(np.fft.rfftfreq(SIDE // 4), np.fft.fftfreq(SIDE // 4)))
    smooth = np.fft.irfft2(spectrum / (0.02 + fall) ** 2)
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    logits = smooth * rng.uniform(0.5, 12, (count, 1, 1)) - rng.uniform(-3, 6, (count, 1, 1))
    logits[0] = -5
    return logits.astype(np.float32)


@pytest.fixture(
    params=[(size, stretched) for size in SIZES for stretched in (False, True)],
    ids=lambda case: f"{case[0][1]}x{case[0][0]}{' stretched' * case[1]}",
)
def case(request):
    """Statistics of a geometry, low-resolution logits, and the same at the photo's size."""
    size, stretched = request.param
    frame = Frame(FrameSize.square(SIDE), size, SAM_2 if stretched else SAM)
    low_res = blobs(12, seed=size[0])
    return MaskStatistics(frame), low_res, upscale(low_res, frame)


def test_the_stability_score_is_the_reference_s():
    import_segment_anything()
    logits = blobs(12, seed=5)
    score = import_module("segment_anything.utils.amg").calculate_stability_score
    expected = score(torch.from_numpy(logits), 0.5, OFFSET).numpy()
    assert np.isnan(expected[0])  # the empty mask: 0 / 0
    np.testing.assert_allclose(stability_score(logits, 0.5, OFFSET), np.nan_to_num(expected, nan=0.0), rtol=1e-6)


def test_stability_equals_the_score_of_the_full_size_masks(case):
    statistics, low_res, logits = case
    expected = stability_score(logits, 0.0, OFFSET)
    np.testing.assert_allclose(statistics.stability(low_res, 0.0, OFFSET), expected, atol=1e-6)


def test_a_score_below_the_least_may_be_a_bound_but_stays_below(case):
    statistics, low_res, _ = case
    exact = statistics.stability(low_res, 0.0, OFFSET)
    least = float(np.median(exact))
    scores = statistics.stability(low_res, 0.0, OFFSET, least)
    np.testing.assert_array_equal(scores >= least, exact >= least)
    np.testing.assert_array_equal(scores[scores >= least], exact[exact >= least])
    assert (scores >= exact).all()


def test_boxes_equal_those_of_the_full_size_masks(case):
    statistics, low_res, logits = case
    for box, mask in zip(statistics.boxes(low_res, 0.0).tolist(), logits > 0, strict=True):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max(), y.max()] if len(x) else [0, 0, 0, 0])


def test_runs_equal_those_of_the_full_size_masks(case):
    statistics, low_res, logits = case
    for one, mask in zip(low_res, logits > 0, strict=True):
        np.testing.assert_array_equal(statistics.run_lengths(one, 0.0), rle.run_lengths(mask))


def test_runs_of_a_crop_lie_where_the_crop_was_cut():
    frame = Frame(FrameSize.square(SIDE), (60, 80))
    low_res = blobs(12, seed=3)
    for one, mask in zip(low_res, upscale(low_res, frame) > 0, strict=True):
        whole = np.zeros((100, 120), np.bool_)
        whole[30:90, 17:97] = mask
        lengths = MaskStatistics(frame).run_lengths(one, 0.0, (17, 30), (100, 120))
        np.testing.assert_array_equal(lengths, rle.run_lengths(whole))


def test_a_full_mask_is_one_run_after_an_empty_one():
    full = np.full((SIDE // 4, SIDE // 4), 3, np.float32)
    assert MaskStatistics(Frame(FrameSize.square(SIDE), (50, 70))).run_lengths(full, 0.0).tolist() == [0, 3500]


def test_masks_of_another_frame_are_refused():
    with pytest.raises(UsageError, match="do not belong to a frame of 256"):
        MaskStatistics(Frame(FrameSize.square(SIDE), (50, 70))).boxes(np.zeros((1, 32, 32), np.float32), 0.0)
