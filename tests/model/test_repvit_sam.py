"""RepViT-SAM against the official code: names of the checkpoint, and stored outputs.

`data/repvit_sam_outputs.npz` holds parts of what THU-MIG/RepViT (commit 298f4207, folder `sam`) with timm 1.0.15
computes: see `stored`. `data/repvit_sam_state_dict.json` lists the tensors of the checkpoint.
"""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge.model import EncoderGraph, build_sam
from sam_edge.model.norms import without_batch_norms
from sam_edge.model.repvit import BranchedConv
from sam_edge.model.repvit_sam_encoder import DEPTHS
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.families import build_empty
from sam_edge.weights.layouts import REPVIT_SAM_OFFICIAL
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM
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

VARIANT = "repvit_sam"
# Scales of the branches that blocks add to their input, as `seeded` has them by the names here.
SMALLER = ("token_mixer.0.conv.bn.weight", "token_mixer.0.conv1.weight", "channel_mixer.m.2.bn.weight")
WIDE = FrameSize(160, 256)

pytestmark = pytest.mark.usefixtures("without_gradients")


def test_the_state_dict_is_that_of_the_official_checkpoint():
    ours = build_empty(lambda: build_sam(VARIANT))
    assert converted_shapes(VARIANT, REPVIT_SAM_OFFICIAL) == official_shapes("repvit_sam_state_dict.json", VARIANT)
    assert sum(parameter.numel() for parameter in ours.parameters()) == RELEASES[VARIANT].parameters


def test_a_photo_enters_the_frame_as_in_the_official_code():
    assert photo_gap(Frame(FrameSize.square(1024), SIZE, SAM), "repvit_sam_outputs.npz") <= SCORES


def test_outputs_equal_those_of_the_official_code():
    sam = with_official_weights(build_sam(VARIANT), REPVIT_SAM_OFFICIAL, SMALLER)
    seen = []
    for layer in sam.image_encoder.features:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    embedding = sam.image_encoder(normal_image(1024))
    assert len(seen) == 1 + sum(DEPTHS) + len(DEPTHS) - 1
    with np.load(DATA / "repvit_sam_outputs.npz") as stored:
        for index in range(0, len(seen), 6):
            assert abs(seen[index].double().mean().item() - stored[f"features_{index}_mean"]) <= SCORES, index
            assert abs(seen[index].double().std(correction=0).item() - stored[f"features_{index}_std"]) <= SCORES, index
        assert gap(embedding[0, ::16, ::6, ::6], stored["embedding"]) <= BOUND
        compare_sam_predictions(sam, embedding, stored, BOUND)


def test_joined_branches_keep_the_embedding():
    """The normalization behind the sum of a block's branches becomes a part of their one convolution."""
    graph = EncoderGraph(seeded_sam(VARIANT, 256)).eval()
    joined = without_batch_norms(graph)
    branched = [module for module in joined.modules() if isinstance(module, BranchedConv)]
    assert len(branched) == sum(DEPTHS)
    assert all((each.conv1, each.bn) == (None, None) for each in branched)
    image = (seeded_tensor("image", 1, 3, *WIDE) * 60 + 120).clamp(0, 255)
    expected = graph(image)
    assert expected.shape == (1, 256, *WIDE.grid)
    assert error(joined(image), expected) <= BOUND
