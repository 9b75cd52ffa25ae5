"""The settings that SAM 2's mask generator adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_edge.prediction.promptable import AnyCapacity
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM
from sam_edge_runtime.errors import UsageError
from tests.runtime.automatic.discs import SIDE, DiscBackend

LIMITED = replace(SAM, logit_limit=32.0)
ALL = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


class Refining(DiscBackend):
    """With a mask prompt every output is that mask, shrunk by a pixel; records the mask prompts."""

    def __init__(self) -> None:
        self.prompts: list[np.ndarray] = []

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        masks, iou, _ = super().decode(features, point_coords, point_labels, mask_input, has_mask_input)
        if has_mask_input.any():
            self.prompts.append(mask_input)
            masks = np.repeat(mask_input - 2.0, 4, axis=1)
        return Decoded(masks, iou + 0.01 * has_mask_input[:, None].astype(np.float32))


def records(backend, conventions=SAM, **settings):
    capacity = AnyCapacity((FrameSize.square(SIDE),), conventions)
    made = AutomaticSettings(**{**ALL, **settings, "output_mode": COCO_RLE})
    return AutomaticMaskGenerator.from_backend(backend, capacity, made).generate(np.zeros((SIDE, SIDE, 3), np.uint8))


def radii(plain):
    """Each record, and the radius of its disc."""
    return [(each, min((12, 20, 30), key=lambda radius: abs(each["area"] - np.pi * radius**2))) for each in plain]


def test_one_mask_a_point_is_output_0():
    assert len(records(DiscBackend())) == 3 * 4
    single = records(DiscBackend(), multimask_output=False)
    assert len(single) == 4
    assert {each["predicted_iou"] for each in single} == {0.0}


@pytest.mark.parametrize(("conventions", "largest"), [(SAM, 60.0), (LIMITED, 32.0)])
def test_refinement_prompts_with_each_mask_s_own_logits(conventions, largest):
    backend = Refining()
    plain, refined = records(DiscBackend()), records(backend, conventions, use_m2m=True)
    assert sum(len(each) for each in backend.prompts) == 12
    # Each disc of radius 12, 20 or 30 pixels loses a pixel of its radius: 2 of logits that fall by 2 a pixel.
    expected = sorted(round(each["area"] * ((radius - 1) / radius) ** 2, -2) for each, radius in radii(plain))
    found = sorted(round(each["area"], -2) for each in refined)
    np.testing.assert_allclose(found, expected, atol=200)
    assert {round(each["predicted_iou"], 2) for each in refined} == {0.01}  # a single mask: output 0
    highest = max(np.abs(each).max() for each in backend.prompts)
    assert highest == largest if conventions is LIMITED else highest > largest


def test_sam_2_has_its_own_threshold():
    assert AutomaticSettings.for_variant("sam2.1_hiera_tiny").pred_iou_thresh == 0.8
    assert AutomaticSettings.for_variant("vit_b").pred_iou_thresh == 0.88


@pytest.mark.parametrize("name", ["use_m2m", "multimask_output"])
def test_switches_are_true_or_false(name):
    with pytest.raises(UsageError, match=f"{name} 'yes' is neither True nor False"):
        AutomaticSettings(**{name: "yes"})


@pytest.mark.parametrize("name", ["points_per_batch", "crop_n_layers", "crop_n_points_downscale_factor"])
def test_only_the_grid_s_side_may_be_none(name):
    with pytest.raises(UsageError, match=f"{name} None is no integer"):
        AutomaticSettings(**{name: None})
