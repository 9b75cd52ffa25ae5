"""`SAM2ImagePredictor` answers for each photo of a batch what `SamPredictor` answers for that photo alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam_edge_runtime import SAM2ImagePredictor, SamPredictor
from sam_edge_runtime.errors import PromptError, StateError, UsageError
from tests.runtime.standin import NumpyBackend, bundle_without_files

SIZES = [(96, 192), (200, 120), (64, 64)]
POINTS = [[[30.0, 40.0]], [[10.0, 20.0], [100.0, 150.0]], [[5.0, 60.0]]]
LABELS = [[1], [1, 0], [0]]
BOXES = [[10, 10, 60, 70], None, [[1, 2, 30, 40], [5, 5, 60, 60]]]


def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def predictor() -> SAM2ImagePredictor:
    return SAM2ImagePredictor(bundle_without_files(), backend=NumpyBackend())


def alone(photo: np.ndarray, **prompt) -> tuple[np.ndarray, ...]:
    one = SamPredictor(bundle_without_files(), backend=NumpyBackend())
    one.set_image(photo)
    return one.predict(**prompt)


@pytest.mark.parametrize("multimask", [True, False])
def test_each_photo_of_a_batch_gets_its_own_answer(multimask):
    made = predictor()
    made.set_image_batch(photos())
    results = made.predict_batch(POINTS, LABELS, multimask_output=multimask, return_logits=True)
    for photo, points, labels, *found in zip(photos(), POINTS, LABELS, *results, strict=True):
        wanted = alone(photo, point_coords=points, point_labels=labels, multimask_output=multimask, return_logits=True)
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_photo_may_have_another_kind_of_prompt_and_several_boxes():
    made = predictor()
    made.set_image_batch(tuple(photos()))
    points = [None, POINTS[1], None]
    masks, scores, low_res = made.predict_batch(points, [None, LABELS[1], None], box_batch=BOXES)
    assert [each.shape for each in masks] == [(3, 96, 192), (3, 200, 120), (2, 3, 64, 64)]
    assert [each.shape for each in scores] == [(3,), (3,), (2, 3)]
    assert [each.shape for each in low_res] == [(3, 64, 64), (3, 64, 64), (2, 3, 64, 64)]
    for row, box in enumerate(BOXES[2]):
        for ours, theirs in zip((masks[2], scores[2], low_res[2]), alone(photos()[2], box=box), strict=True):
            np.testing.assert_array_equal(ours[row], theirs)


def test_coordinates_from_0_to_1_are_those_of_the_photo():
    made, photo = predictor(), photos()[0]
    made.set_image(photo)
    share = np.array(POINTS[0]) / [192, 96]
    corners = np.array(BOXES[0]) / [192, 96, 192, 96]
    found = made.predict(share, LABELS[0], corners, normalize_coords=False)
    for ours, theirs in zip(found, alone(photo, point_coords=POINTS[0], point_labels=[1], box=BOXES[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_pillow_image_is_taken_as_rgb():
    made, photo = predictor(), photos()[1]
    made.set_image(Image.fromarray(photo).convert("RGBA"))
    for ours, theirs in zip(
        made.predict(POINTS[1], LABELS[1]), alone(photo, point_coords=POINTS[1], point_labels=LABELS[1]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_calls_out_of_order_are_refused_with_the_right_one():
    made = predictor()
    with pytest.raises(StateError, match="call set_image_batch"):
        made.predict_batch(POINTS, LABELS)
    made.set_image_batch(photos())
    with pytest.raises(StateError, match="3 photos are set; call predict_batch"):
        made.predict(POINTS[0], LABELS[0])
    with pytest.raises(PromptError, match="point_coords_batch has 2 entries for 3 photos"):
        made.predict_batch(POINTS[:2], LABELS)
    for nothing in ([], np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(UsageError, match="no list of photos"):
            made.set_image_batch(nothing)
    made.reset_predictor()
    with pytest.raises(StateError, match="no image is set"):
        made.predict(POINTS[0], LABELS[0])


def test_several_boxes_beside_points_need_as_many_of_them():
    """As in SAM 2, which takes a point or more for each of several boxes."""
    made = predictor()
    made.set_image(photos()[2])
    with pytest.raises(PromptError, match="different numbers of prompts"):
        made.predict(POINTS[2], LABELS[2], BOXES[2])
    points, labels = [[[5.0, 60.0]], [[20.0, 30.0]]], [[0], [1]]
    found = made.predict(points, labels, BOXES[2])
    for row in range(2):
        wanted = alone(photos()[2], point_coords=points[row], point_labels=labels[row], box=BOXES[2][row])
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours[row], theirs)


@pytest.mark.parametrize(
    "prompt", [{"point_coords": [[0.5]]}, {"point_coords": [["0.5", "0.5"]]}, {"box": [[0.1] * 3]}]
)
def test_shares_of_another_shape_or_kind_are_refused(prompt):
    made = predictor()
    made.set_image(photos()[0])
    labels = [1] if "point_coords" in prompt else None
    with pytest.raises(PromptError):
        made.predict(point_labels=labels, **prompt, normalize_coords=False)


def test_no_boxes_give_no_masks():
    made = predictor()
    made.set_image(photos()[0])
    masks, scores, low_res = made.predict(box=np.zeros((0, 4)))
    assert (masks.shape, scores.shape, low_res.shape) == ((0, 3, 96, 192), (0, 3), (0, 3, 64, 64))
