"""Near-duplicates of photos by their hashes, and of masks by their IoU."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sam_edge.annotation.duplicates import BITS, PhotoHashes, difference_hash, repeated_masks
from tests.data.builders import encoded, rectangles, rle_of
from tests.engine.scenes import scene


def again(photo: np.ndarray, scale: float, quality: int) -> np.ndarray:
    """The photo in another size, compressed anew, and a little brighter."""
    height, width = photo.shape[:2]
    brighter = np.clip(photo.astype(int) + 8, 0, 255).astype(np.uint8)
    other = Image.fromarray(brighter).resize((round(width * scale), round(height * scale)))
    return np.asarray(Image.open(io.BytesIO(encoded(np.asarray(other), quality=quality))))


def test_a_copy_in_another_size_is_found_and_other_photos_are_not():
    hashes = PhotoHashes()
    photos = [scene(seed)[0] for seed in range(60)]
    for seed, photo in enumerate(photos):
        assert hashes.find(difference_hash(photo)) is None
        hashes.add(difference_hash(photo), f"scene {seed}")
    found = [hashes.find(difference_hash(again(photo, 0.6, 80))) for photo in photos]
    assert (
        sum(name == f"scene {seed}" for seed, name in enumerate(found)) >= 50
    )  # of 60: the ground is noise, whose gradients are weak
    assert all(name in (None, f"scene {seed}") for seed, name in enumerate(found))


def test_all_pairs_within_the_distance_are_found_as_by_comparing_all():
    rng = np.random.default_rng(0)
    first = [int(value) for value in rng.integers(0, 2**62, 40)]
    for distance in (0, 3, 7):
        hashes = PhotoHashes(distance)
        for number, each in enumerate(first):
            hashes.add(each, str(number))
        for number, each in enumerate(first):
            for flipped in range(distance + 3):
                other = each
                for bit in rng.choice(BITS, flipped, replace=False):
                    other ^= 1 << int(bit)
                expected = [str(k) for k, one in enumerate(first) if (one ^ other).bit_count() <= distance]
                assert hashes.find(other) == (str(number) if flipped <= distance else None)
                assert expected == ([str(number)] if flipped <= distance else [])


def test_masks_that_repeat_an_earlier_one_are_counted():
    one, other, small = rectangles(3)
    nearly = one.copy()
    nearly[tuple(np.argwhere(one)[0])] = False
    assert repeated_masks([rle_of(each) for each in (one, other, small)]) == 0
    assert repeated_masks([rle_of(each) for each in (one, other, nearly, one)]) == 2
    assert repeated_masks([]) == 0
