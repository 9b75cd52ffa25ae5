"""The frame's geometry equals that of the reference's `ResizeLongestSide`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam_edge.prediction.promptable import AnyCapacity
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD, FrameSize
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, SAM_2
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.photo.frame import Frame, fitting_frame, waste_warning
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
    frame = Frame(FrameSize.square(side), size)
    assert frame.resized_size == expected.shape[:2]
    np.testing.assert_array_equal(frame.resize(photo), expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", SIZES)
def test_coordinates_equal_the_reference(size, side):
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, 1, (2, 5, 2)) * [size[1], size[0]]
    expected = torch.as_tensor(reference_transform(side).apply_coords(coords, size), dtype=torch.float).numpy()
    result = Frame(FrameSize.square(side), size).to_frame(coords)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 100)])
def test_image_equals_the_reference_after_normalization(size):
    photo, side = random_photo(size), 256
    image = Frame(FrameSize.square(side), size).image(photo)
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
    frame = Frame(FrameSize.square(256), (40, 60))
    np.testing.assert_array_equal(frame.resize(photo), frame.resize(photo.copy()))


@pytest.mark.parametrize(
    ("side", "size", "error", "message"),
    [
        (0, (10, 10), UsageError, "frame of 0x0 pixels is empty"),
        (256, (0, 10), PhotoError, "10x0"),
        (256, (10, 0), PhotoError, "0x10"),
        (256, (1, 600), PhotoError, "too narrow"),
    ],
)
def test_impossible_frames_are_refused(side, size, error, message):
    with pytest.raises(error, match=message):
        Frame(FrameSize.square(side), size)


@pytest.mark.parametrize("photo", [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.float32), np.zeros((5, 4))])
def test_a_photo_of_another_frame_is_refused(photo):
    with pytest.raises(UsageError, match=r"\(5, 4, 3\)"):
        Frame(FrameSize.square(256), (5, 4)).resize(photo)


# Frames that are no squares -----------------------------------------------------------------------------------------

WIDE, TALL, SQUARE = FrameSize(192, 256), FrameSize(256, 192), FrameSize.square(256)


def test_a_photo_of_the_frames_shape_is_resized_as_in_the_square():
    photo = random_photo((480, 640))
    wide, square = Frame(WIDE, (480, 640)), Frame(SQUARE, (480, 640))
    assert wide.resized_size == square.resized_size == (192, 256)
    np.testing.assert_array_equal(wide.image(photo), square.image(photo)[:, :, :192])
    np.testing.assert_array_equal(wide.to_frame(np.array([[3.5, 7.0]])), square.to_frame(np.array([[3.5, 7.0]])))
    assert (wide.waste, square.waste) == (0.0, 0.25)


def test_a_photo_that_does_not_fit_is_scaled_to_fit_and_padded():
    photo = random_photo((640, 480))
    frame = Frame(WIDE, (640, 480))
    assert frame.resized_size == (192, 144)
    image = frame.image(photo)
    assert image.shape == (1, 3, 192, 256)
    np.testing.assert_array_equal(image[0, :, :, :144].transpose(1, 2, 0), frame.resize(photo))
    assert (image[0, :, :, 144:].reshape(3, -1) == np.array(PIXEL_MEAN, np.float32)[:, None]).all()
    assert frame.waste == 1 - 144 / 256
    np.testing.assert_allclose(frame.to_frame(np.array([[480.0, 640.0]])), [[144.0, 192.0]])


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 90), (7, 1001), (1365, 2048)])
def test_a_stretched_photo_is_resized_in_float(size):
    """As SAM 2's `SAM2Transforms` does: to 0..1, antialiased, without rounding."""
    photo, frame = random_photo(size), Frame(FrameSize.square(256), size, SAM_2)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    expected = F.interpolate(image, (256, 256), mode="bilinear", align_corners=False, antialias=True).numpy() * 255
    assert frame.image(photo).dtype == np.float32
    assert np.abs(frame.image(photo) - expected).max() < 1e-3
    assert (frame.resized_size, frame.waste) == ((256, 256), 0.0)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 90), (7, 1001), (256, 256), (1365, 2048)])
def test_a_photo_is_resized_without_antialiasing_where_the_model_wants_it(size):
    """As `EfficientSam.preprocess` does."""
    photo, frame = random_photo(size), Frame(FrameSize.square(256), size, EFFICIENT_SAM)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    expected = F.interpolate(image, (256, 256), mode="bilinear").numpy() * 255
    assert frame.image(photo).dtype == np.float32
    assert np.abs(frame.image(photo) - expected).max() < 1e-3


def test_stretched_coordinates_are_scaled_by_each_side():
    coords = np.random.default_rng(0).uniform(0, 480, (40, 2))
    given = torch.from_numpy(coords).float()
    expected = given / torch.tensor([640, 480]) * 1024  # SAM2Transforms.transform_coords
    frame = Frame(FrameSize.square(1024), (480, 640), SAM_2)
    np.testing.assert_array_equal(frame.to_frame(coords), expected.numpy())


def test_a_model_that_stretches_gets_a_stretched_frame():
    capacity = AnyCapacity((SQUARE,), SAM_2)
    assert fitting_frame(capacity, (100, 700)) == Frame(SQUARE, (100, 700), SAM_2)
    assert waste_warning(capacity, (100, 700)) is None


@pytest.mark.parametrize(
    ("size", "chosen"),
    [((480, 640), WIDE), ((640, 480), TALL), ((500, 500), SQUARE), ((360, 640), WIDE), ((1000, 10), TALL)],
)
def test_a_photo_goes_into_the_frame_that_it_fills_best(size, chosen):
    for frames in ((SQUARE, WIDE, TALL), (TALL, WIDE, SQUARE)):
        assert fitting_frame(AnyCapacity(frames), size) == Frame(chosen, size)


def test_of_equal_frames_the_one_with_the_larger_scale_is_taken():
    half = FrameSize(96, 128)
    assert fitting_frame(AnyCapacity((half, WIDE)), (480, 640)).size == WIDE
    assert fitting_frame(AnyCapacity((WIDE, half)), (480, 640)).size == WIDE
    assert fitting_frame(AnyCapacity((WIDE, TALL)), (100, 100)).size == WIDE  # of equals the first
    assert fitting_frame(AnyCapacity((TALL, WIDE)), (100, 100)).size == TALL


def test_a_photo_that_hardly_fills_its_frame_is_named_with_a_better_frame():
    line = waste_warning(AnyCapacity((WIDE,)), (640, 480))
    assert line is not None
    assert line.startswith("the photo of 480x640 pixels fills 56% of the frame 256x192")
    assert "--frame 192x256 as well" in line
    assert "--frame 256x128" in str(waste_warning(AnyCapacity((TALL,)), (100, 1000)))
    assert waste_warning(AnyCapacity((WIDE, TALL)), (640, 480)) is None
    assert waste_warning(AnyCapacity((SQUARE,)), (100, 1000)) is None  # the default, whose cost is known
