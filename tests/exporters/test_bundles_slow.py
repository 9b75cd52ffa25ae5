"""Bundles of full-size models, exported and compared with fp32 torch as `sam-edge export` does."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import ExportResult, export_bundle
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.agreement.agreement import bounds_for
from sam_edge_runtime.bundle.bundle import Bundle
from tests.model.builders import BOUND, gap

pytestmark = pytest.mark.slow


def made(tmp_path, variant: str, **choices) -> ExportResult:
    return export_bundle(ExportJob(variant, tmp_path / variant, "random:0", **choices))


@pytest.mark.parametrize(
    ("target", "variant", "side"),
    [
        ("onnx", "tiny_vit", 1024),
        ("onnx", "tiny_vit", 512),
        ("onnx", "vit_b", 1024),
        ("onnx", "vit_b", 512),
        ("coreml", "tiny_vit", 1024),
        ("coreml", "vit_b", 1024),
        ("tflite", "tiny_vit", 1024),
        ("tflite", "vit_b", 1024),
    ],
)
def test_bundle_agrees_with_torch_within_the_bounds(tmp_path, target, variant, side):
    result = made(tmp_path, variant, input_side=side, target=target)
    agreement, bounds = result.agreement, bounds_for(target, "fp32")
    assert result.missed == ()
    assert agreement.mask_miou >= bounds.mask_miou
    assert agreement.iou_prediction_error <= bounds.iou_prediction_error
    assert agreement.embedding_snr_db >= bounds.embedding_snr_db
    assert len(agreement.photos) == 2
    again = Bundle.open(tmp_path / variant)  # every file's hash
    assert (again.manifest.variant, again.manifest.input_side, again.manifest.checkpoint.random) == (
        variant,
        side,
        True,
    )
    assert [path.name for path in tmp_path.iterdir()] == [variant]


def test_a_fixed_bundle_predicts_the_same_as_a_variable_one(tmp_path):
    """Through the predictor: every number of clicks that fits, and more boxes than one call takes."""
    variable = SamPredictor(made(tmp_path / "variable", "tiny_vit").bundle)
    fixed = SamPredictor(made(tmp_path / "fixed", "tiny_vit", points=5, prompts=2).bundle)
    draw = np.random.default_rng(0)
    photo = draw.integers(0, 256, (120, 160, 3), np.uint8)
    for predictor in (variable, fixed):
        predictor.set_image(photo)
    assert gap(fixed.get_image_embedding(), variable.get_image_embedding()) == 0
    for clicks in range(1, 5):
        prompt = {"point_coords": draw.uniform(0, 119, (clicks, 2)), "point_labels": np.arange(clicks) % 2}
        for ours, theirs in zip(
            fixed.predict(**prompt, return_logits=True), variable.predict(**prompt, return_logits=True), strict=True
        ):
            assert gap(ours, theirs) <= BOUND
    corners = draw.uniform(0, 60, (5, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(10, 50, (5, 2))], axis=1)
    for ours, theirs in zip(
        fixed.predict_batch(boxes=boxes, return_logits=True),
        variable.predict_batch(boxes=boxes, return_logits=True),
        strict=True,
    ):
        assert gap(ours, theirs) <= BOUND
