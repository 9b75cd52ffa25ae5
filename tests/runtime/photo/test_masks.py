"""Upscaled masks equal those of the reference's `Sam.postprocess_masks`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, SAM_2
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo import masks as masks_module
from sam_edge_runtime.photo.frame import Axis, Frame
from sam_edge_runtime.photo.masks import axis_matrix, upscale, upscale_binary
from tests.reference import import_segment_anything

SIZES = [(480, 640), (640, 480), (333, 333), (1, 1), (7, 1001), (1500, 37), (683, 1024), (1365, 2048), (255, 257)]
BOUND = 1e-4  # absolute, in logits


def reference_masks(low_res: np.ndarray, frame: Frame) -> np.ndarray:
    model = SimpleNamespace(image_encoder=SimpleNamespace(img_size=frame.size.side))
    batch = torch.from_numpy(low_res)[None]
    sam = import_segment_anything().modeling.Sam
    return sam.postprocess_masks(model, batch, frame.resized_size, frame.original_size)[0].numpy()


def random_logits(side: int, count: int = 2, scale: float = 10.0) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((count, side // 4, side // 4)) * scale).astype(np.float32)


@pytest.mark.parametrize("side", [256, 448, 1024])
@pytest.mark.parametrize("size", SIZES)
def test_logits_equal_the_reference(size, side):
    frame, low_res = Frame(FrameSize.square(side), size), random_logits(side)
    result = upscale(low_res, frame)
    assert result.shape == (2, *size)
    assert result.dtype == np.float32
    assert np.abs(result - reference_masks(low_res, frame)).max() <= BOUND


@pytest.mark.parametrize("size", SIZES)
def test_a_stretched_photo_s_logits_are_interpolated_once(size):
    """As SAM 2's `postprocess_masks` does."""
    frame, low_res = Frame(FrameSize.square(256), size, SAM_2), random_logits(256)
    expected = F.interpolate(torch.from_numpy(low_res)[None], size, mode="bilinear", align_corners=False)[0].numpy()
    assert np.abs(upscale(low_res, frame) - expected).max() <= BOUND
    np.testing.assert_array_equal(upscale_binary(low_res, frame), upscale(low_res, frame) > 0)


@pytest.mark.parametrize("size", SIZES)
def test_efficient_sam_s_logits_are_interpolated_bicubically(size):
    """As `EfficientSam.predict_masks` does."""
    frame, low_res = Frame(FrameSize.square(256), size, EFFICIENT_SAM), random_logits(256)
    expected = F.interpolate(torch.from_numpy(low_res)[None], size, mode="bicubic")[0].numpy()
    assert np.abs(upscale(low_res, frame) - expected).max() <= BOUND
    np.testing.assert_array_equal(upscale_binary(low_res, frame), upscale(low_res, frame) > 0)


def test_binary_masks_are_the_thresholded_logits():
    frame, low_res = Frame(FrameSize.square(256), (200, 301)), random_logits(256)
    np.testing.assert_array_equal(upscale_binary(low_res, frame), upscale(low_res, frame) > 0)
    np.testing.assert_array_equal(upscale_binary(low_res, frame, 2.5), upscale(low_res, frame) > 2.5)


def test_no_masks_give_no_masks():
    frame = Frame(FrameSize.square(256), (20, 30))
    assert upscale(np.zeros((0, 64, 64), np.float32), frame).shape == (0, 20, 30)
    assert upscale_binary(np.zeros((0, 64, 64), np.float32), frame).shape == (0, 20, 30)


def test_bands_are_computed_once_per_geometry():
    masks_module._bands.cache_clear()
    frame, low_res = Frame(FrameSize.square(256), (200, 301)), random_logits(256)
    for _ in range(3):
        upscale(low_res, frame)
    assert masks_module._bands.cache_info().misses == 2


@pytest.mark.parametrize("pixels", [1, 7, 15, 16, 17, 2250])
def test_bands_hold_every_nonzero_weight_of_an_axis(pixels):
    matrix = axis_matrix(Axis(1024, 1024, pixels))
    whole = np.full_like(matrix, np.nan)
    for band in masks_module._bands(Axis(1024, 1024, pixels)):
        whole[band.pixels] = 0
        whole[band.pixels, band.cells] = band.weights
    np.testing.assert_array_equal(whole, matrix)


@pytest.mark.parametrize(("pixels", "cells"), [(2250, 5), (512, 10)])
def test_a_band_has_few_cells(pixels, cells):
    assert max(band.weights.shape[1] for band in masks_module._bands(Axis(1024, 1024, pixels))) <= cells


@pytest.mark.parametrize("size", [(3000, 4000), (1500, 2250), (4000, 3000), (480, 640)])
def test_the_products_of_a_photo_start_no_threads_of_openblas(size):
    frame = Frame(FrameSize.square(1024), size)
    for band in masks_module._bands(frame.axes[0]):
        assert band.weights.size * size[1] <= 1 << 18
    columns = masks_module._bands(frame.axes[1])
    assert max(band.weights.size for band in columns) * 256 <= 1 << 18


def test_logits_in_the_padding_have_no_influence():
    frame, low_res = Frame(FrameSize.square(256), (64, 256)), random_logits(256)  # 16 of 64 rows hold the photo
    changed = low_res.copy()
    changed[:, 17:] = 1e6
    np.testing.assert_array_equal(upscale(low_res, frame), upscale(changed, frame))


@pytest.mark.parametrize("shape", [(64, 64), (1, 32, 64), (1, 1, 64, 64)])
def test_masks_of_another_frame_are_refused(shape):
    with pytest.raises(UsageError, match=r"\(K, 64, 64\)"):
        upscale(np.zeros(shape, np.float32), Frame(FrameSize.square(256), (10, 10)))


@pytest.mark.parametrize(
    ("frame", "size"), [((192, 256), (480, 640)), ((256, 192), (641, 480)), ((160, 256), (99, 50))]
)
def test_frames_that_are_no_squares_are_upscaled_as_the_reference_does(frame, size):
    """The reference knows squares: its first step is done by torch for the frame's two sides."""
    placed = Frame(FrameSize(*frame), size)
    low_res = np.random.default_rng(0).normal(0, 10, (2, *placed.size.cells)).astype(np.float32)
    in_frame = torch.nn.functional.interpolate(
        torch.from_numpy(low_res)[None], frame, mode="bilinear", align_corners=False
    )
    h, w = placed.resized_size
    expected = torch.nn.functional.interpolate(in_frame[..., :h, :w], size, mode="bilinear", align_corners=False)
    assert np.abs(upscale(low_res, placed) - expected[0].numpy()).max() <= BOUND
    np.testing.assert_array_equal(upscale_binary(low_res, placed), upscale(low_res, placed) > 0)
