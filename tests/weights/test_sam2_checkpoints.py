"""Checkpoints of SAM 2, SAM 2.1 and EdgeTAM: the image path is loaded, parts for videos are named, faults refused.

Numbers do not matter here: recognition goes by names and shapes, so tensors are zeros without memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sam_edge.model import build_sam
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.contents import Contents
from sam_edge.weights.families import build_empty, shapes_of_variant
from sam_edge.weights.load import load_sam
from sam_edge.weights.recognition import Recognized, normalized, recognize
from sam_edge.weights.source import parse_source
from sam_edge_runtime.errors import CheckpointError
from tests.model.builders import seeded_tensor
from tests.weights.test_weights_catalogue import VIDEO

State = dict[str, torch.Tensor]


def found_in(tree: dict[Any, Any]) -> Recognized:
    return recognize(normalized(Contents((), tree, None), "sam2.pt"))


def sam2_tables() -> dict[str, State]:
    """Official names of SAM 2.1's checkpoints beside the image encoder, with zeros: for images and for videos."""
    path = Path(__file__).parents[1] / "model" / "data" / "sam2_state_dicts.json"
    tables = json.loads(path.read_text(encoding="utf-8"))
    return {
        title: {name: torch.zeros(()).expand(shape) for name, shape in table.items()} for title, table in tables.items()
    }


# What SAM 2.0's files lack of 2.1's: facebookresearch/sam2 has the same configurations but for the parts with these.
NEW_IN_2_1 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")


@pytest.mark.parametrize("lacking", [(), NEW_IN_2_1])
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_files_of_sam_2_give_their_image_part_and_the_parts_for_videos_are_named(size, lacking):
    wanted, tables = shapes_of_variant(f"sam2.1_hiera_{size}"), sam2_tables()
    encoder = {n: torch.zeros(()).expand(shape) for n, shape in wanted.items() if n.startswith("image_encoder.")}
    official = {**tables["video"], **encoder, **tables["image"]}
    found = found_in({"model": {name: tensor for name, tensor in official.items() if name not in lacking}})
    assert found.variant == f"sam2.1_hiera_{size}"
    assert {name: tuple(each.shape) for name, each in found.checkpoint.state.items()} == wanted
    parts = {name.partition(".")[0] for name in tables["video"]} - {name.partition(".")[0] for name in lacking}
    assert {entry.partition(" ")[0] for entry in found.checkpoint.left_out} == parts
    assert "SAM 2.0's, fine-tuned and converted weights have the same modules" in found.described


def test_edgetams_file_gives_its_image_part():
    wanted, tables = shapes_of_variant("edgetam"), sam2_tables()
    found = found_in({"model": {**tables["edgetam_video"], **tables["edgetam_encoder"], **tables["image"]}})
    assert found.described.startswith("sam2.pt: edgetam, EdgeTAM (RepViT); official names, float32; not EdgeTAM's own")
    assert {name: tuple(each.shape) for name, each in found.checkpoint.state.items()} == wanted
    parts = {name.partition(".")[0] for name in tables["edgetam_video"]}
    assert "spatial_perceiver" in parts
    assert {entry.partition(" ")[0] for entry in found.checkpoint.left_out} == parts


@pytest.mark.parametrize("variant", ["sam2.1_hiera_tiny", "edgetam"])
def test_the_numbers_of_the_catalogue_are_those_of_the_model_and_of_the_parts_for_videos(variant):
    tables = sam2_tables()
    table = tables["edgetam_video" if variant == "edgetam" else "video"]
    parameters = sum(each.numel() for each in build_empty(lambda: build_sam(variant)).parameters())
    assert parameters == RELEASES[variant].parameters
    assert sum(each.numel() for each in table.values()) == VIDEO[variant]


@pytest.mark.parametrize("seed", [0, 7])
def test_seeded_weights_keep_edgetams_features_in_range(seed):
    """Every block adds to its input: features would double with each and overflow in float16."""
    sam = load_sam("edgetam", parse_source(f"random:{seed}")).sam
    photo = seeded_tensor("photo", 1, 3, 128, 128)
    with torch.inference_mode():
        for each in sam.image_encoder.trunk(photo):
            assert 0.1 < each.std().item() < 100


def test_a_missing_or_wrong_tensor_of_sam_2_is_named():
    tables, wanted = sam2_tables(), shapes_of_variant("sam2.1_hiera_tiny")
    encoder = {n: torch.zeros(()).expand(shape) for n, shape in wanted.items() if n.startswith("image_encoder.")}
    state = {**encoder, **tables["image"]}
    del state["no_mem_embed"]
    with pytest.raises(CheckpointError, match=r"nearest is sam2.1_hiera_tiny: missing mask_decoder.no_memory.embed$"):
        found_in(state)
    state = {**encoder, **tables["image"], "image_encoder.trunk.blocks.10.proj.weight": torch.zeros(1).expand(768, 96)}
    with pytest.raises(
        CheckpointError, match=r"shapes: image_encoder.trunk.blocks.10.proj.weight is \(768, 96\) where"
    ):
        found_in(state)
