"""Checkpoints of SAM 2 and SAM 2.1: the image path is loaded, the parts for videos are named, and faults refused.

Numbers do not matter here: recognition goes by names and shapes, so tensors are zeros without memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sam_edge.weights.contents import Contents
from sam_edge.weights.families import shapes_of_variant
from sam_edge.weights.recognition import Recognized, normalized, recognize
from sam_edge_runtime.errors import CheckpointError

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
