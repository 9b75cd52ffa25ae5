"""EfficientSAM against the official code: names of the checkpoints, and stored outputs.

`data/efficient_sam_outputs.npz` holds parts of what yformer/EfficientSAM (commit d525f622) computes: see `stored`.
`data/efficient_sam_state_dicts.json` lists the tensors of both checkpoints.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge.model.lean import attention_is_cheaper, lean_rewrite, with_positions_for
from sam_edge.model.sam import Sam
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.families import build_empty
from sam_edge.weights.layouts import EFFICIENT_SAM_OFFICIAL
from sam_edge_runtime.bundle.contract import FrameSize, decoder_contract
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame
from tests.model.builders import BOUND, error, gap, seeded_sam, seeded_tensor
from tests.model.stored import (
    DATA,
    EFFICIENT_SAM_PROMPTS,
    SCORES,
    SIZE,
    converted_shapes,
    normal_image,
    official_shapes,
    photo_gap,
    predictor_of,
    prompt_arguments,
    with_official_weights,
)

VARIANTS = ("efficient_sam_vitt", "efficient_sam_vits")
SIDE = 256

pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dicts_are_those_of_the_official_checkpoints(variant):
    ours = build_empty(lambda: build_sam(variant))
    assert converted_shapes(variant, EFFICIENT_SAM_OFFICIAL) == official_shapes(
        "efficient_sam_state_dicts.json", variant
    )
    assert sum(parameter.numel() for parameter in ours.parameters()) == RELEASES[variant].parameters


def test_a_photo_enters_the_frame_as_in_the_official_code():
    assert photo_gap(Frame(FrameSize.square(1024), SIZE, EFFICIENT_SAM), "efficient_sam_outputs.npz") <= SCORES


@pytest.mark.parametrize("variant", [VARIANTS[0], pytest.param(VARIANTS[1], marks=pytest.mark.slow)])
def test_outputs_equal_those_of_the_official_code(variant):
    sam = with_official_weights(build_sam(variant), EFFICIENT_SAM_OFFICIAL)
    embedding = sam.image_encoder(normal_image(1024))
    predictor = predictor_of(sam, embedding)
    with np.load(DATA / "efficient_sam_outputs.npz") as stored:
        assert gap(embedding[0, ::16, ::6, ::6], stored[f"{variant}.embedding"]) <= BOUND
        assert abs(embedding.double().mean().item() - stored[f"{variant}.embedding_mean"]) <= SCORES
        assert abs(embedding.double().std(correction=0).item() - stored[f"{variant}.embedding_std"]) <= SCORES
        positions = sam.prompt_encoder.dense_positions()
        for name, slots in EFFICIENT_SAM_PROMPTS.items():
            given = torch.tensor([slots], dtype=torch.float32)
            coords = given[..., :2] * torch.tensor([1024 / SIZE[1], 1024 / SIZE[0]])
            sparse, _ = sam.prompt_encoder(coords, given[..., 2])
            assert gap(sparse[0, :, ::4], stored[f"{variant}.{name}.sparse"]) <= SCORES
            masks, iou = sam.mask_decoder(embedding, positions, sparse, None, torch.zeros(1, 6))
            assert gap(masks[0, :, ::14, ::14], stored[f"{variant}.{name}.masks"]) <= BOUND
            assert gap(iou[0], stored[f"{variant}.{name}.iou"]) <= SCORES
            prompt = prompt_arguments(name, slots)
            _, scores, low_res = predictor.predict(**prompt)
            assert gap(scores, stored[f"{variant}.{name}.iou"][1:]) <= SCORES
            assert gap(low_res[:, ::14, ::14], stored[f"{variant}.{name}.masks"][1:]) <= BOUND
            if f"{variant}.{name}.full" in stored:
                logits, *_ = predictor.predict(**prompt, return_logits=True)
                assert gap(logits[:, ::29, ::31], stored[f"{variant}.{name}.full"]) <= BOUND


# Prompts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> Sam:
    with torch.inference_mode():
        return seeded_sam(VARIANTS[0], SIDE)


def test_six_points_fit_and_every_slot_counts(sam):
    """The model was trained to see the slots that are not in use, so that six and five points differ."""
    embedding = seeded_tensor("embedding", 1, 256, 64, 64)
    predictor = predictor_of(seeded_sam(VARIANTS[0], 1024), embedding)
    points = np.array([[100, 50], [500, 400], [320, 200], [30, 300], [600, 20], [400, 80]])
    assert predictor.predict(points, np.ones(6))[0].shape == (3, *SIZE)
    with pytest.raises(PromptError, match="needs 7 slots, and this model has 6"):
        predictor.predict(np.concatenate([points, points[:1]]), np.ones(7))
    with pytest.raises(PromptError, match="needs 7 slots, and this model has 6"):
        predictor.predict(points[:5], np.ones(5), box=[10, 10, 90, 90])


def test_prompts_that_the_model_does_not_know_are_refused(sam):
    predictor = predictor_of(seeded_sam(VARIANTS[0], 1024), seeded_tensor("embedding", 1, 256, 64, 64))
    with pytest.raises(PromptError, match=r"knows no points outside the object \(label 0\)"):
        predictor.predict([[100, 50], [500, 400]], [1, 0])
    with pytest.raises(PromptError, match="takes no mask prompts: leave out mask_input"):
        predictor.predict([[100, 50]], [1], mask_input=np.zeros((1, 256, 256)))


def test_labels_below_0_are_all_slots_that_are_not_in_use(sam):
    graph = DecoderGraph(sam).eval()
    embedding, coords = seeded_tensor("embedding", 1, 256, 16, 16), torch.full((1, 6, 2), 90.0)
    found = [
        graph(embedding, coords[:, :count], torch.tensor([labels]))
        for labels, count in (([1.0, -1, -1, -1, -1, -1], 6), ([1.0, -2, -1, -2, -2, -2], 6), ([1.0], 1))
    ]
    for each in found[1:]:
        for one, other in zip(each, found[0], strict=True):
            assert error(one, other) <= SCORES


def test_the_contract_has_no_mask_prompts():
    contract = decoder_contract(FrameSize.square(SIDE), 256, 1, 6, conventions=EFFICIENT_SAM)
    assert contract.input_names == ("image_embeddings", "point_coords", "point_labels")


# Graphs for targets -------------------------------------------------------------------------------------------------


def test_graphs_rewritten_for_targets_keep_the_outputs(sam):
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255)
    encoder, decoder = EncoderGraph(sam).eval(), DecoderGraph(sam).eval()
    embedding = encoder(image)
    assert error(with_positions_for(encoder, FrameSize.square(SIDE))(image), embedding) <= BOUND
    assert attention_is_cheaper(decoder, 6)
    coords = seeded_tensor("coords", 2, 6, 2).mul(40).add(90)
    prompt = (coords, torch.tensor([[1.0, 1.0, -1, -2, -2, -2], [2.0, 3.0, 1, 1, 1, 1]]))
    for found, wanted in zip(lean_rewrite(decoder)(embedding, *prompt), decoder(embedding, *prompt), strict=True):
        assert error(found, wanted) <= BOUND
