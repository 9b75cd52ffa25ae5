"""Objects of one photo on another: every pixel and every mask comes from one of the two."""

from __future__ import annotations

import dataclasses

import numpy as np

from sam_edge.data.augment import Augmentation, Crop, augment
from sam_edge.data.copy_paste import PASTED, paste
from sam_edge.data.mixture import of_sources
from sam_edge.data.sources import open_source
from sam_edge.data.stream import TrainingSet
from tests.data.builders import pairs, rectangles, sample, write_tar

SIDE = 64
OPTIONS = Augmentation(SIDE, scale=(0.6, 2.0), min_pixels=4, most_masks=6)


def crop_of(seed: int) -> Crop:
    photo = np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8)
    return augment(sample(photo, rectangles(seed, 4, (50, 70))), OPTIONS, np.random.default_rng(seed))


def test_pixels_and_masks_come_from_both_photos():
    pasted = 0
    for seed in range(40):
        below, above = crop_of(seed), crop_of(1000 + seed)
        found = paste(below, above, OPTIONS, np.random.default_rng(seed))
        changed = (found.image != below.image).any(axis=0)
        objects = [mask for mask, which in zip(found.masks, found.which, strict=True) if which == PASTED]
        assert found.size == below.size
        assert not (changed & ~below.valid()).any()
        np.testing.assert_array_equal(found.image[:, changed], above.image[:, changed])
        for mask, which in zip(found.masks, found.which, strict=True):
            assert mask.sum() >= OPTIONS.min_pixels
            if which == PASTED:
                assert any(not (mask & ~whole).any() for whole in above.masks)
            else:
                own = below.masks[below.which.tolist().index(which)]
                assert not (mask & ~own).any()
                assert not (mask & changed).any()  # what is covered is not visible
                assert not any((mask & other).any() for other in objects)
        pasted += bool(objects)
        assert len(found.masks) <= 6
    assert pasted > 30


def test_a_photo_without_objects_changes_nothing():
    below, above = crop_of(0), crop_of(1)
    none = dataclasses.replace(above, masks=above.masks[:0], which=above.which[:0])
    assert paste(below, none, OPTIONS, np.random.default_rng(0)) is below


def test_a_covered_object_vanishes():
    image = np.zeros((3, SIDE, SIDE), np.float32)
    small, large = np.zeros((2, 1, SIDE, SIDE), bool)
    small[0, 10:14, 10:14] = True
    large[0, 5:40, 5:40] = True
    below = Crop(image, small, np.zeros(1, np.int64), (SIDE, SIDE), "a", "b")
    above = dataclasses.replace(below, image=image + 9, masks=large)
    found = paste(below, above, OPTIONS, np.random.default_rng(0))
    assert found.which.tolist() == [PASTED]
    np.testing.assert_array_equal(found.masks, large)
    np.testing.assert_array_equal(found.image[0], 9 * large[0])


def test_a_training_set_pastes_a_share_by_the_draws_number(tmp_path):
    mixture = of_sources(open_source(write_tar(tmp_path / "a.tar", pairs(6))))
    options = Augmentation(32, min_pixels=1)
    plain = TrainingSet(mixture, options, 3)
    half, again = (TrainingSet(mixture, dataclasses.replace(options, paste=0.5), 3) for _ in range(2))
    shares = [bool((half[number].crop.which == PASTED).any()) for number in range(60)]
    assert 0.3 < np.mean(shares) < 0.7
    for number in range(20):
        one, other = half[number].crop, again[number].crop
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)
        if (
            not (one.which == PASTED).any()
            and shares[number] is False
            and len(one.masks) == len(plain[number].crop.masks)
        ):
            np.testing.assert_array_equal(one.image, plain[number].crop.image)
