"""Which masks a user gets of the four, for each family's conventions."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.bundle.conventions import SAM, SAM_2, SAM_HQ
from sam_edge_runtime.decoding import as_returned, require_finite_features, require_finite_masks, select_masks
from sam_edge_runtime.errors import BackendError

STEEP, FLAT, EMPTY = 8.0, 0.04, -8.0  # logits of a stable mask, of one that the offset erases, and of none


def decoded(*single: float) -> Decoded:
    """Prompts whose output 0 has these logits in one half; of the others output 2 is the best."""
    masks = np.full((len(single), 4, 8, 8), -8.0, np.float32)
    masks[:, 0, :4] = np.array(single, np.float32)[:, None, None]
    masks[:, 1:, :2] = np.array([1.0, 2.0, 3.0], np.float32)[:, None, None]
    iou = np.tile(np.array([[0.99, 0.5, 0.7, 0.6]], np.float32), (len(single), 1))
    return Decoded(masks, iou)


def outputs(found: tuple[np.ndarray, np.ndarray]) -> list[list[float]]:
    """Which outputs were chosen, by their IoU predictions."""
    low_res, iou = found
    assert low_res.flags.c_contiguous
    assert iou.flags.c_contiguous
    assert low_res.shape[:2] == iou.shape
    return [[[0.99, 0.5, 0.7, 0.6].index(round(float(each), 2)) for each in row] for row in iou]


@pytest.mark.parametrize(
    ("conventions", "multimask", "chosen"),
    [
        (SAM, True, [[1, 2, 3]] * 3),
        (SAM, False, [[0]] * 3),
        (SAM_HQ, True, [[2]] * 3),
        (SAM_HQ, False, [[0]] * 3),
        (SAM_2, True, [[1, 2, 3]] * 3),
        (SAM_2, False, [[0], [2], [0]]),  # an empty mask counts as stable, as in SAM 2
    ],
)
def test_each_family_chooses_as_its_predictor_does(conventions, multimask, chosen):
    every = decoded(STEEP, FLAT, EMPTY)
    found = select_masks(every, conventions, multimask=multimask)
    assert outputs(found) == chosen
    for row, places in enumerate(chosen):
        np.testing.assert_array_equal(found[0][row], every.low_res_masks[row, places])


def test_what_is_returned_stands_in_place_of_output_0():
    every = decoded(STEEP, FLAT, EMPTY)
    assert as_returned(every, SAM) is every
    given = as_returned(every, SAM_2)
    masks, iou = select_masks(every, SAM_2, multimask=False)
    np.testing.assert_array_equal(given.low_res_masks[:, :1], masks)
    np.testing.assert_array_equal(given.iou_predictions[:, :1], iou)
    np.testing.assert_array_equal(given.low_res_masks[:, 1:], every.low_res_masks[:, 1:])


@pytest.mark.parametrize(("lost", "chosen"), [(0, 0), (1, 2)])
def test_a_mask_is_stable_if_98_of_100_pixels_stay(lost, chosen):
    masks = np.full((1, 4, 10, 10), -8.0, np.float32)
    masks[0, 0] = STEEP
    masks[0, 0, 0, : 2 + lost] = FLAT  # 2 of 100 keep a ratio of 0.98 exactly
    one = Decoded(masks, np.array([[0.99, 0.5, 0.7, 0.6]], np.float32))
    assert outputs(select_masks(one, SAM_2, multimask=False)) == [[chosen]]


def test_outputs_that_are_not_finite_are_named():
    sound = decoded(STEEP)
    require_finite_masks(sound._replace(object_scores=np.zeros((1, 1), np.float32)))
    with pytest.raises(BackendError, match="the object scores contain NaN"):
        require_finite_masks(sound._replace(object_scores=np.full((1, 1), np.nan, np.float32)))
    with pytest.raises(BackendError, match="the IoU predictions contain NaN"):
        require_finite_masks(sound._replace(iou_predictions=sound.iou_predictions * np.inf))
    zeros = np.zeros((1, 2, 4, 4), np.float32)
    with pytest.raises(BackendError, match="the features of the photo contain NaN"):
        require_finite_features((zeros, zeros * np.nan))
