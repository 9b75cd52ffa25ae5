"""Photo and masks are transformed together, and every pixel comes from the photo."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from sam_edge.data.augment import Augmentation, Crop, augment, letterbox
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, FrameSize
from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.photo.frame import Frame
from tests.data.builders import rectangles, sample

SIDE = 64
STILL = Augmentation(SIDE, scale=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, min_pixels=1)
GEOMETRY = dataclasses.replace(STILL, scale=(0.4, 2.5), flip=0.5)
RED, BLUE = (220, 30, 30), (20, 40, 200)


def squares(size=(90, 120)):
    """A red square on blue, and the mask of each."""
    photo = np.full((*size, 3), BLUE, np.uint8)
    mask = np.zeros(size, bool)
    mask[20:65, 30:80] = True
    photo[mask] = RED
    return sample(photo, np.stack([mask, ~mask]))


def noise(size=(90, 120)):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return sample(photo, rectangles(0, 3, size))


def crops(record, options: Augmentation, count: int = 60) -> list[Crop]:
    return [augment(record, options, np.random.default_rng(seed)) for seed in range(count)]


def redness(crop: Crop) -> np.ndarray:
    """(S, S), 1 where the photo shows the square, 0 where it does not, and in between at its edge."""
    return np.where(crop.valid(), (crop.image[0] - BLUE[0]) / (RED[0] - BLUE[0]), 0)


def centre(weights: np.ndarray) -> np.ndarray:
    """y, x of the centre of mass."""
    return (np.indices(weights.shape) * weights).sum(axis=(1, 2)) / weights.sum()


@pytest.mark.parametrize("size", [(90, 120), (120, 90), (70, 85), (75, 300)])
def test_the_coloured_square_and_its_mask_move_together(size):
    offsets = []
    for crop in crops(squares(size), GEOMETRY):
        square = redness(crop)
        for mask, which in zip(crop.masks, crop.which, strict=True):
            covered = square if which == 0 else np.where(crop.valid(), 1 - square, 0)
            assert mask[covered > 0.9].all()  # in between lies the edge, where resizing blends the colours
            assert not mask[covered < 0.1].any()
        if 0 in crop.which:
            offsets.append(centre(crop.masks[crop.which.tolist().index(0)]) - centre(square))
    assert len(offsets) > 40
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.1  # no shift, not even by half a pixel


def test_all_kinds_of_views_occur():
    seen = crops(squares(), GEOMETRY, 200)
    widths = np.array([crop.size[1] for crop in seen])
    assert (widths < SIDE).any()  # padded
    assert (widths == SIDE).mean() > 0.4  # cropped
    assert widths.min() < 0.5 * SIDE
    halves = [crop for crop in seen if crop.size[1] < SIDE]
    left = [bool(crop.masks[0][:, : crop.size[1] // 2].sum() > crop.masks[0].sum() / 2) for crop in halves]
    assert 0.2 < np.mean(left) < 0.8  # the square lies left of the middle; flipped, right of it


def test_a_view_is_a_part_of_the_resized_photo():
    record = noise()
    for crop in crops(record, dataclasses.replace(GEOMETRY, scale=(2, 2), flip=0), 5):
        whole = np.asarray(Image.fromarray(record.photo).resize((128, 96), Image.Resampling.BILINEAR)).astype(int)
        parts = np.lib.stride_tricks.sliding_window_view(whole, (SIDE, SIDE), axis=(0, 1))
        difference = np.abs(parts - crop.image[:, :, :].astype(int)).max(axis=(2, 3, 4))
        assert difference.min() <= 1  # rounding
        assert np.count_nonzero(difference <= 1) == 1


def test_a_flip_mirrors_photo_and_masks():
    plain = augment(noise(), STILL, np.random.default_rng(0))
    flipped = augment(noise(), dataclasses.replace(STILL, flip=1), np.random.default_rng(0))
    height, width = plain.size
    np.testing.assert_array_equal(flipped.image[:, :height, :width], plain.image[:, :height, :width][:, :, ::-1])
    order = np.argsort(flipped.which), np.argsort(plain.which)
    np.testing.assert_array_equal(
        flipped.masks[order[0]][:, :height, :width], plain.masks[order[1]][:, :height, :width][:, :, ::-1]
    )


@pytest.mark.parametrize("size", [(90, 120), (120, 90), (64, 64), (1, 64), (500, 333)])
def test_the_letterbox_is_the_runtimes_frame(size):
    record = sample(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), rectangles(0, 2, (*size,)))
    crop = letterbox(record, SIDE)
    frame = Frame(FrameSize.square(SIDE), size)
    np.testing.assert_array_equal(crop.image, frame.image(record.photo)[0])
    assert crop.size == frame.resized_size
    assert crop.masks.shape == (2, SIDE, SIDE)
    assert crop.which.tolist() == [0, 1]
    assert (crop.source, crop.key) == ("here", "it")


def test_augmentation_without_variation_is_the_letterbox():
    varied, plain = augment(noise(), STILL, np.random.default_rng(0)), letterbox(noise(), SIDE)
    np.testing.assert_array_equal(varied.image, plain.image)
    np.testing.assert_array_equal(varied.masks, plain.masks[varied.which])
    assert varied.size == plain.size


def test_letterboxed_masks_lie_where_the_photo_does():
    crop = letterbox(squares(), SIDE)
    assert crop.masks[0][redness(crop) > 0.9].all()
    assert not crop.masks[0][redness(crop) < 0.1].any()
    assert (crop.masks[0] ^ crop.masks[1] == crop.valid()).all()


def test_padding_is_the_pixel_mean_and_no_mask():
    crop = augment(squares(), dataclasses.replace(STILL, scale=(0.5, 0.5)), np.random.default_rng(0))
    assert crop.size == (24, 32)
    outside = crop.image[:, ~crop.valid()]
    np.testing.assert_array_equal(outside, np.broadcast_to(np.float32(PIXEL_MEAN)[:, None], outside.shape))
    assert not crop.masks[:, ~crop.valid()].any()
    assert crop.image.dtype == np.float32


def test_colour_changes_the_photo_within_its_range_and_nothing_else():
    options = dataclasses.replace(STILL, brightness=0.5, contrast=0.5, saturation=1.0)
    still = augment(noise(), STILL, np.random.default_rng(1))
    means = []
    for crop in crops(noise(), options, 40):
        inside = crop.image[:, crop.valid()]
        assert inside.min() >= 0
        assert inside.max() <= 255
        assert crop.size == still.size
        assert (crop.masks.sum() == still.masks.sum()).all()
        means.append(inside.mean())
    assert np.std(means) > 10


def test_saturation_alone_leaves_grey_photos_grey():
    grey = sample(np.full((40, 40, 3), 90, np.uint8), np.ones((1, 40, 40), bool))
    for crop in crops(grey, dataclasses.replace(STILL, saturation=1.0), 5):
        np.testing.assert_array_equal(crop.image[:, crop.valid()], 90)


def test_tiny_masks_are_dropped_and_the_others_counted_in_pixels():
    for crop in crops(noise(), dataclasses.replace(GEOMETRY, min_pixels=30)):
        assert (crop.masks.sum(axis=(1, 2)) >= 30).all()
        assert len(crop.masks) == len(crop.which) == len(set(crop.which.tolist()))
        assert crop.masks.dtype == np.bool_


def test_at_most_so_many_masks_are_kept_and_each_is_chosen_sometimes():
    record = sample(np.zeros((60, 60, 3), np.uint8), np.stack([np.ones((60, 60), bool)] * 10))
    options = dataclasses.replace(STILL, most_masks=3)
    kept = np.array([crop.which for crop in crops(record, options, 100)])
    assert kept.shape == (100, 3)
    assert (np.bincount(kept.ravel(), minlength=10) > 10).all()
    assert len(augment(record, dataclasses.replace(STILL, most_masks=None), np.random.default_rng(0)).which) == 10


def test_a_crop_without_masks_is_drawn_again():
    mask = np.zeros((1, 200, 200), bool)
    mask[0, :12, :12] = True  # at three times the scale most crops miss it
    record = sample(np.zeros((200, 200, 3), np.uint8), mask)
    options = dataclasses.replace(STILL, scale=(3, 3), min_pixels=4)
    assert all(len(crop.masks) == 1 for crop in crops(record, options))


def test_a_mask_too_small_for_the_frame_leaves_none():
    mask = np.zeros((1, 200, 200), bool)
    mask[0, 5, 5] = True
    record = sample(np.zeros((200, 200, 3), np.uint8), mask)
    crop = augment(record, dataclasses.replace(STILL, min_pixels=9), np.random.default_rng(0))
    assert crop.masks.shape == (0, SIDE, SIDE)
    assert crop.which.shape == (0,)


def test_photos_without_masks_are_augmented_too():
    record = sample(noise().photo, np.zeros((0, 90, 120), bool))
    assert augment(record, GEOMETRY, np.random.default_rng(0)).masks.shape == (0, SIDE, SIDE)
    assert letterbox(record, SIDE).masks.shape == (0, SIDE, SIDE)


def test_the_generator_alone_determines_the_view():
    options = Augmentation(SIDE)
    first, again, other = (augment(noise(), options, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)


def test_very_narrow_photos_are_augmented_but_not_letterboxed():
    record = sample(np.zeros((2, 900, 3), np.uint8), np.ones((1, 2, 900), bool))
    assert all(crop.size[0] >= 1 for crop in crops(record, GEOMETRY, 10))
    with pytest.raises(PhotoError, match="too narrow"):
        letterbox(record, SIDE)


def test_the_sample_is_not_changed():
    record = noise()
    before = record.photo.copy()
    crops(record, Augmentation(SIDE), 3)
    np.testing.assert_array_equal(record.photo, before)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"side": 8}, "side 8 is too small"),
        ({"scale": (0.0, 1.0)}, "not a range"),
        ({"scale": (2.0, 1.0)}, "not a range"),
        ({"scale": (1.0, float("inf"))}, "not a range"),
        ({"flip": 1.5}, "flip 1.5"),
        ({"contrast": -0.1}, "contrast -0.1"),
        ({"min_pixels": 0}, "min_pixels 0 is too small"),
        ({"most_masks": 0}, "most_masks 0 is too small"),
    ],
)
def test_bad_options_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        dataclasses.replace(STILL, **changes)
