"""The paired bootstrap, on scores whose loss and spread are known."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge.evaluation.paired import least_photos, paired_loss
from sam_edge_runtime.errors import UsageError


def scores(photos: int, spread: float, loss: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A reference's and a candidate's scores of four prompts a photo; the loss differs from photo to photo."""
    rng = np.random.default_rng(seed)
    reference = [rng.uniform(0.4, 0.9, 4) for _ in range(photos)]
    return reference, [each - loss - spread * rng.normal() for each in reference]


def test_equal_scores_lose_nothing_with_certainty():
    reference, _ = scores(8, 0.1, 0.0)
    same = paired_loss(reference, reference, 0.95)
    assert (same.loss, same.low, same.high) == (0.0, 0.0, 0.0)
    assert (same.photos, same.prompts) == (8, 32)
    assert same.reference == same.candidate == pytest.approx(np.mean(reference))


def test_the_loss_is_the_mean_over_prompts_and_not_over_photos():
    lost = paired_loss([np.array([1.0]), np.array([1.0, 1.0, 1.0])], [np.array([0.6]), np.ones(3)], 0.95)
    assert lost.loss == pytest.approx(0.1)
    assert lost.loss == pytest.approx(lost.reference - lost.candidate)


def test_the_interval_has_the_width_of_a_normal_mean_whose_unit_is_the_photo():
    reference, candidate = scores(400, 0.02, 0.003)
    lost = paired_loss(reference, candidate, 0.95)
    spread = np.std([a.mean() - b.mean() for a, b in zip(reference, candidate, strict=True)])
    assert (lost.high - lost.low) / 2 == pytest.approx(1.96 * spread / np.sqrt(400), rel=0.05)
    assert lost.low < 0.003 < lost.high
    narrower = paired_loss(reference, candidate, 0.8)
    assert (narrower.high - narrower.low) / (lost.high - lost.low) == pytest.approx(1.2816 / 1.96, rel=0.05)


def test_the_interval_covers_the_true_loss_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        lost = paired_loss(*scores(40, 0.02, 0.005, seed), 0.9)
        hits += lost.low <= 0.005 <= lost.high
    assert 0.82 < hits / 200 < 0.96


def test_the_number_of_photos_that_a_claim_needs():
    reference, candidate = scores(40, 0.02, 0.0)
    lost = paired_loss(reference, candidate, 0.95)
    allowed = lost.loss + (lost.high - lost.loss) / 2  # half as wide an interval: four times the photos
    assert lost.photos_needed(allowed) == pytest.approx(160, abs=1)
    assert lost.photos_needed(lost.loss) is None
    assert lost.photos_needed(lost.high) == 40


@pytest.mark.parametrize(("confidence", "photos"), [(0.6, 5), (0.9, 5), (0.95, 6), (0.99, 8), (0.999, 11)])
def test_more_confidence_needs_more_photos(confidence, photos):
    assert least_photos(confidence) == photos


def test_scores_of_other_photos_are_refused():
    with pytest.raises(UsageError, match="same photos"):
        paired_loss([np.ones(2)], [np.ones(3)], 0.95)
    with pytest.raises(UsageError, match="same photos"):
        paired_loss([], [], 0.95)
