"""EfficientViT-SAM against the official code: names of the checkpoints, and stored outputs.

`data/efficientvit_sam_outputs.npz` holds parts of what mit-han-lab/efficientvit (commit de7d7733) with segment_anything
(commit dca509fe) computes for l0: see `stored`. `data/efficientvit_sam_state_dicts.json` lists the tensors of all
checkpoints.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model import EncoderGraph, build_sam
from sam_edge.model.efficientvit import FusedConv, Upsample
from sam_edge.model.lean import with_positions_for
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.families import build_empty, guess_variant, shapes_of_variant
from sam_edge.weights.layouts import EFFICIENTVIT_SAM_OFFICIAL
from sam_edge_runtime.bundle.contract import FrameSize, encoder_contract
from sam_edge_runtime.bundle.conventions import EFFICIENTVIT_SAM, SAM
from sam_edge_runtime.photo.frame import Frame
from tests.model.builders import BOUND, error, gap, seeded_sam, seeded_tensor
from tests.model.stored import (
    DATA,
    SCORES,
    SIZE,
    compare_sam_predictions,
    converted_shapes,
    normal_image,
    official_shapes,
    photo_gap,
    with_official_weights,
)

VARIANTS = tuple(f"efficientvit_sam_{size}" for size in ("l0", "l1", "l2", "xl0", "xl1"))

pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dicts_are_those_of_the_official_checkpoints(variant):
    ours = build_empty(lambda: build_sam(variant))
    assert converted_shapes(variant, EFFICIENTVIT_SAM_OFFICIAL) == official_shapes(
        "efficientvit_sam_state_dicts.json", variant
    )
    assert sum(parameter.numel() for parameter in ours.parameters()) == RELEASES[variant].parameters
    assert guess_variant(shapes_of_variant(variant)) == variant
    assert ours.conventions == (SAM if "xl" in variant else EFFICIENTVIT_SAM)


def test_a_photo_is_resized_to_half_of_the_frame_and_prompts_to_the_whole():
    frame = Frame(FrameSize.square(1024), SIZE, EFFICIENTVIT_SAM)
    assert photo_gap(frame, "efficientvit_sam_outputs.npz") <= SCORES
    assert frame.to_frame(np.array([[640.0, 480.0]])).tolist() == [[1024.0, 768.0]]
    contract = encoder_contract(frame.size, 256, conventions=EFFICIENTVIT_SAM)
    assert (contract.inputs[0].shape, contract.outputs[0].shape) == ((1, 3, 512, 512), (1, 256, 64, 64))


def test_outputs_equal_those_of_the_official_code():
    sam = with_official_weights(build_sam("efficientvit_sam_l0"), EFFICIENTVIT_SAM_OFFICIAL)
    image = normal_image(512)
    outputs = sam.image_encoder.stage_outputs(image)
    embedding = sam.image_encoder(image)
    with np.load(DATA / "efficientvit_sam_outputs.npz") as stored:
        for stage, (output, step) in enumerate(zip(outputs, (29, 13, 7, 3, 2), strict=True)):
            channels = 2 * output.shape[1] // 16
            assert gap(output[0, ::channels, ::step, ::step], stored[f"backbone_stage{stage}"]) <= BOUND, stage
            assert abs(output.double().mean().item() - stored[f"backbone_stage{stage}_mean"]) <= SCORES
            assert abs(output.double().std(correction=0).item() - stored[f"backbone_stage{stage}_std"]) <= SCORES
        assert gap(embedding[0, ::16, ::6, ::6], stored["embedding"]) <= BOUND
        compare_sam_predictions(sam, embedding, stored, BOUND)


@pytest.mark.parametrize("frame", [FrameSize(192, 256), FrameSize(256, 128), FrameSize.square(256)])
def test_products_instead_of_resizes_keep_the_embedding(frame):
    graph = EncoderGraph(seeded_sam("efficientvit_sam_l0", 256)).eval()
    image = (seeded_tensor("image", 1, 3, frame.height // 2, frame.width // 2) * 60 + 120).clamp(0, 255)
    expected = graph(image)
    assert expected.shape == (1, 256, *frame.grid)
    assert error(with_positions_for(graph, frame)(image), expected) <= BOUND


def test_the_xl_models_resize_to_the_same_cells():
    encoder = build_empty(lambda: build_sam("efficientvit_sam_xl0")).image_encoder
    assert [each.factor for each in encoder.modules() if isinstance(each, Upsample)] == [4, 2, 1]
    with torch.device("meta"):
        assert encoder(torch.empty(1, 3, 256, 192)).shape == (1, 256, 16, 12)
    assert all(isinstance(block, FusedConv) for block in encoder.neck)
