"""Automatic masks against human masks: all figures of cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge.data.sample import Sample
from sam_edge.evaluation.automatic import Proposals, automatic_figures, average_recall, propose
from sam_edge_runtime.automatic import rle
from tests.data.builders import picture
from tests.runtime.automatic.discs import disc_generator

SIZE = (40, 60)


def square(x: int, y: int, side: int) -> rle.Rle:
    mask = np.zeros(SIZE, np.bool_)
    mask[y : y + side, x : x + side] = True
    return rle.encode(mask)


def proposals(human: list[rle.Rle], found: list[rle.Rle]) -> Proposals:
    ious = [[iou(a, b) for b in found] for a in human]
    return Proposals(tuple(found), np.array(ious, np.float64).reshape(len(human), len(found)), 2.0)


def iou(one: rle.Rle, other: rle.Rle) -> float:
    a, b = rle.decode(one), rle.decode(other)
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_average_recall_is_the_mean_over_ten_thresholds():
    assert average_recall(np.array([1.0])) == pytest.approx(1.0)
    assert average_recall(np.array([0.5, 0.49])) == pytest.approx(0.05)
    assert average_recall(np.array([0.76])) == pytest.approx(0.6)


def test_only_the_first_masks_of_a_photo_count_at_a_rank():
    human = [square(2, 2, 10), square(30, 20, 10)]
    filler = [square(50, 30, 4)] * 9
    found = [*filler, square(2, 2, 10), square(30, 20, 11)]
    figures = automatic_figures("it", "data", [proposals(human, found)], None)
    assert figures.recall["ar@10"] == pytest.approx(0.5)
    second = 100 / 121
    assert figures.recall["ar@100"] == pytest.approx((1 + average_recall(np.array([second]))) / 2)
    assert (figures.good, figures.very_good) == (1.0, 0.5)
    assert (figures.photos, figures.masks, figures.proposals, figures.agreement) == (1, 2, 11, None)
    assert figures.seconds == 2.0


def test_a_photo_without_proposals_counts_as_missed():
    human = [square(2, 2, 10)]
    figures = automatic_figures("it", "data", [proposals(human, []), proposals(human, human)], None)
    assert figures.recall["ar@1000"] == pytest.approx(0.5)
    assert figures.proposals == 0.5


def test_agreement_is_over_the_masks_of_both_sides():
    one, other = [square(2, 2, 10)], [square(2, 2, 10), square(30, 20, 10)]
    figures = automatic_figures("it", "data", [proposals(one, other)], [proposals(one, one)])
    assert figures.agreement == pytest.approx(2 / 3)
    same = automatic_figures("it", "data", [proposals(one, one)], [proposals(one, one)])
    assert same.agreement == pytest.approx(1.0)


def test_the_mask_with_the_highest_predicted_iou_comes_first():
    photo = picture(0, (256, 256))
    wanted = disc_generator().generate(photo)
    found = propose(disc_generator(), Sample(photo, (wanted[-1]["segmentation"],), "here", "it"))
    order = sorted(wanted, key=lambda record: -record["predicted_iou"])
    assert list(found.rles) == [record["segmentation"] for record in order]
    assert found.ious.max() == pytest.approx(1.0)
