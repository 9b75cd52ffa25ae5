"""The frame's geometry equals that of the reference's `ResizeLongestSide`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.photo.frame import Frame
from tests.reference import import_segment_anything

SIZES = [(480, 640), (640, 480), (333, 333), (1, 1), (7, 1001), (1500, 37), (1024, 683), (1365, 2048), (255, 257)]
SIDES = [256, 448, 1024]


def reference_transform(side: int):
    return import_segment_anything().utils.transforms.ResizeLongestSide(side)


def random_photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", SIZES)
def test_resize_is_bit_equal_to_the_reference(size, side):
    photo = random_photo(size)
    expected = reference_transform(side).apply_image(photo)
    frame = Frame(side, size)
    assert frame.resized_size == expected.shape[:2]
    np.testing.assert_array_equal(frame.resize(photo), expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", SIZES)
def test_coordinates_equal_the_reference(size, side):
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, 1, (2, 5, 2)) * [size[1], size[0]]
    expected = torch.as_tensor(reference_transform(side).apply_coords(coords, size), dtype=torch.float).numpy()
    result = Frame(side, size).to_frame(coords)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 100)])
def test_image_equals_the_reference_after_normalization(size):
    photo, side = random_photo(size), 256
    image = Frame(side, size).image(photo)
    assert image.shape == (1, 3, side, side)
    assert image.dtype == np.float32
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    normalized = (torch.from_numpy(image) - mean) / std
    resized = torch.from_numpy(reference_transform(side).apply_image(photo)).permute(2, 0, 1)[None]
    expected = (resized - mean) / std
    height, width = expected.shape[-2:]
    expected = torch.nn.functional.pad(expected, (0, side - width, 0, side - height))
    assert torch.equal(normalized, expected)


def test_a_channel_reversed_view_is_resized_like_its_copy():
    photo = random_photo((40, 60))[:, :, ::-1]
    frame = Frame(256, (40, 60))
    np.testing.assert_array_equal(frame.resize(photo), frame.resize(photo.copy()))


@pytest.mark.parametrize(
    ("side", "size", "error", "message"),
    [
        (0, (10, 10), UsageError, "frame side 0"),
        (256, (0, 10), PhotoError, "10x0"),
        (256, (10, 0), PhotoError, "0x10"),
        (256, (1, 600), PhotoError, "too narrow"),
    ],
)
def test_impossible_frames_are_refused(side, size, error, message):
    with pytest.raises(error, match=message):
        Frame(side, size)


@pytest.mark.parametrize("photo", [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.float32), np.zeros((5, 4))])
def test_a_photo_of_another_frame_is_refused(photo):
    with pytest.raises(UsageError, match=r"\(5, 4, 3\)"):
        Frame(256, (5, 4)).resize(photo)
