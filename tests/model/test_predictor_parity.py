"""Photo in, masks out: the runtime's predictor on the torch model against segment_anything's own predictor.

The encoder is a ViT of the smallest width, because only the code around it is tested here. One photo of each shape,
every kind of prompt.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model.torch_backend import TorchBackend
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.bundle.bundle import Bundle
from tests.model.builders import BOUND, NARROW, SHALLOW_B, error, sam_pair
from tests.reference import import_segment_anything
from tests.runtime.standin import manifest

SIZES = {"square": (112, 112), "wide": (96, 150), "tall": (131, 80)}  # (H, W)
UNDECIDED = 1e-4  # relative to the largest logit: so close to the threshold, rounding decides on which side a pixel is


def photo(height: int, width: int) -> np.ndarray:
    """A slanted gradient with noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin((x + y) / 9)], axis=-1)
    noise = np.random.default_rng(height).normal(0, 20, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def prompts(height: int, width: int) -> dict[str, dict]:
    """Keyword arguments of `predict`, the same for both predictors."""
    size = np.array([width, height])
    clicks = size * np.array([[0.3, 0.4], [0.71, 0.52], [0.9, 0.1]])
    box = np.concatenate([0.2 * size, 0.75 * size])
    mask = np.random.default_rng(7).normal(0, 4, (1, 256, 256)).astype(np.float32)
    return {
        "point": {"point_coords": clicks[:1], "point_labels": np.array([1])},
        "three points": {"point_coords": clicks, "point_labels": np.array([1, 1, 0])},
        "box": {"box": box},
        "box and points": {"point_coords": clicks, "point_labels": np.array([1, 0, 0]), "box": box},
        "mask": {"mask_input": mask},
        "mask and point": {"point_coords": clicks[:1], "point_labels": np.array([1]), "mask_input": mask},
        "nothing": {},
    }


def predictors(config) -> tuple[SamPredictor, object]:
    ours, theirs = sam_pair(config)
    bundle = Bundle(None, manifest(input_side=1024, embedding_channels=256))
    reference = import_segment_anything().SamPredictor(theirs)
    return SamPredictor(bundle, backend=TorchBackend(ours)), reference


@pytest.fixture(scope="module")
def narrow_pair():
    return predictors(NARROW)


@pytest.fixture(scope="module", params=SIZES)
def predictors_with_photo(request, narrow_pair):
    """Both predictors with the same photo set, and its size."""
    ours, theirs = narrow_pair
    size = SIZES[request.param]
    for predictor in (ours, theirs):
        predictor.set_image(photo(*size))
    return ours, theirs, size


def test_embedding_equals_the_reference(predictors_with_photo):
    ours, theirs, _ = predictors_with_photo
    assert error(ours.get_image_embedding(), theirs.get_image_embedding()) <= BOUND


@pytest.mark.parametrize(
    ("name", "multimask"), [(name, True) for name in prompts(1, 1)] + [("point", False), ("box and points", False)]
)
def test_masks_equal_the_reference(predictors_with_photo, name, multimask):
    ours, theirs, size = predictors_with_photo
    prompt = {**prompts(*size)[name], "multimask_output": multimask}
    logits, iou, low_res = ours.predict(**prompt, return_logits=True)
    their_logits, their_iou, their_low_res = theirs.predict(**prompt, return_logits=True)
    assert logits.shape == ((3 if multimask else 1), *size)
    assert error(logits, their_logits) <= BOUND
    assert error(low_res, their_low_res) <= BOUND
    assert error(iou, their_iou) <= BOUND


def test_thresholded_masks_equal_the_reference(predictors_with_photo):
    ours, theirs, size = predictors_with_photo
    prompt = prompts(*size)["three points"]
    masks, their_masks = ours.predict(**prompt)[0], theirs.predict(**prompt)[0]
    logits = theirs.predict(**prompt, return_logits=True)[0]
    assert masks.dtype == np.bool_
    assert their_masks.any()
    assert not their_masks.all()
    assert (np.abs(logits[masks != their_masks]) <= UNDECIDED * np.abs(logits).max()).all()


def test_several_boxes_in_one_call_equal_the_reference(predictors_with_photo):
    """`predict_batch` in photo coordinates is the reference's `predict_torch` in frame coordinates."""
    ours, theirs, (height, width) = predictors_with_photo
    size = np.array([width, height, width, height])
    boxes = size * np.array([[0.1, 0.1, 0.5, 0.6], [0.3, 0.2, 0.9, 0.8], [0.0, 0.5, 0.4, 1.0]])
    logits, iou, low_res = ours.predict_batch(boxes=boxes, return_logits=True)
    in_frame = torch.from_numpy(theirs.transform.apply_boxes(boxes, (height, width))).float()
    their_logits, their_iou, their_low_res = theirs.predict_torch(None, None, in_frame, return_logits=True)
    assert error(logits, their_logits) <= BOUND
    assert error(iou, their_iou) <= BOUND
    assert error(low_res, their_low_res) <= BOUND


def test_a_mask_fed_back_as_prompt_equals_the_reference():
    """Two rounds, each predictor with its own first mask as prompt, on a ViT of ViT-B's width."""
    ours, theirs = predictors(SHALLOW_B)
    size = SIZES["wide"]
    second_round = []
    for predictor in (ours, theirs):
        predictor.set_image(photo(*size))
        point = prompts(*size)["point"]
        _, iou, low_res = predictor.predict(**point)
        best = low_res[[int(np.argmax(iou))]]
        second_round.append(predictor.predict(**point, mask_input=best, multimask_output=False, return_logits=True))
    assert error(ours.get_image_embedding(), theirs.get_image_embedding()) <= BOUND
    for mine, their in zip(*second_round, strict=True):
        assert error(mine, their) <= BOUND
