"""Histograms count each photo and mask once, can be added, and survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge.data.skips import Skip
from sam_edge.datasets.mask_shapes import mask_shapes
from sam_edge.datasets.statistics import (
    MOST_MASKS,
    NAMED,
    SIDE_STEP,
    Statistics,
    concavities_of_equal_sizes,
    quantile,
)
from sam_edge_runtime.automatic import rle


def statistics_of(*photos: np.ndarray) -> Statistics:
    """Of photos with masks (M, H, W)."""
    found = Statistics()
    for masks in photos:
        size = masks.shape[1], masks.shape[2]
        found.add_photo(size, mask_shapes([rle.encode(mask) for mask in masks], size))
    return found


def random_masks(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 30, 40)) < 0.2


def test_figures_of_one_photo():
    masks = np.zeros((3, 40, 50), bool)
    masks[0, :20, :25] = True  # a quarter of the photo
    masks[1, 30:, 40:] = True
    found = statistics_of(masks)
    assert (found.photos, found.masks, found.empty) == (1, 2, 1)
    assert found.relative_size == pytest.approx(0.5 + np.sqrt(100 / 2000))
    assert found.concavity == 0
    assert found.masks_of_photo[2] == 1
    assert found.sizes[[50, 22]].tolist() == [1, 1]
    assert found.centres[12, 12] == 1  # the middle of the upper left quarter
    assert found.short_sides[40 // SIDE_STEP] == found.long_sides[50 // SIDE_STEP] == 1
    assert found.coco_sizes.tolist() == [2, 0, 0]
    assert found.resolutions == {(40, 50): 1}


def test_parts_add_up_to_the_whole_and_survive_json():
    photos = [random_masks(seed, seed) for seed in range(5)]
    whole, parts = statistics_of(*photos), Statistics()
    for part in (photos[3:], photos[:3]):
        one = statistics_of(*part)
        parts.add(Statistics.from_json(json.loads(json.dumps(one.to_json()))))
    first, second = whole.to_json(), parts.to_json()
    for name in ("relative_size", "concavity"):
        assert first.pop(name) == pytest.approx(second.pop(name))
    assert first == second


def test_broken_records_are_named_in_their_order_and_not_without_end():
    several = [Statistics(), Statistics()]
    for number in reversed(range(2 * NAMED)):
        several[number % 2].add_broken(number, Skip("a.tar", f"sa_{number}", "why"))
    several[0].add(several[1])
    assert several[0].broken == 2 * NAMED
    assert len(several[0].named) == NAMED
    assert list(several[0].named) == sorted(several[0].named)


def test_a_photo_of_very_many_masks_is_counted():
    size = (1, 1)
    found = Statistics()
    found.add_photo(size, mask_shapes([rle.encode(np.ones(size, bool))] * (MOST_MASKS + 5), size))
    assert found.masks_of_photo[MOST_MASKS] == 1


@pytest.mark.parametrize(
    "change", [{"centres": [[1]]}, {"photos": None}, {"named": [[1]]}, {"resolutions": 3}, {"masks_of_photo": "x"}]
)
def test_damaged_statistics_are_refused(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Statistics.from_json({**Statistics().to_json(), **change})


def test_concavity_is_compared_at_equal_sizes():
    """Two sources whose masks of each size are equally concave, but one has more of the large and concave ones."""
    several = []
    for small, large in ((90, 10), (10, 90)):
        one = Statistics(masks=100)
        one.size_and_concavity[10, 5], one.size_and_concavity[60, 20] = small, large
        several.append(one)
    first, second = concavities_of_equal_sizes(several)
    assert np.allclose(first, second)
    assert first[[5, 20]].tolist() == [0.5, 0.5]
    assert not np.allclose(several[0].concavities, several[1].concavities)
    alone = concavities_of_equal_sizes(several[:1])[0]
    assert alone[[5, 20]].tolist() == [0.9, 0.1]


def test_sources_without_a_common_size_are_compared_as_they_are():
    several = [Statistics(masks=1), Statistics(masks=1), Statistics()]
    several[0].size_and_concavity[10, 5] = several[1].size_and_concavity[60, 20] = 1
    found = concavities_of_equal_sizes(several)
    assert [each.sum() for each in found] == [1, 1, 0]


def test_quantiles_lie_within_bins():
    counts = np.array([0, 10, 10, 0])
    assert quantile(counts, 0.5) == pytest.approx(0.5)
    assert quantile(counts, 0.25) == pytest.approx(0.375)
    assert quantile(counts, 0.75, top=8.0) == pytest.approx(5.0)
    assert quantile(np.zeros(4, int), 0.5) == 0
