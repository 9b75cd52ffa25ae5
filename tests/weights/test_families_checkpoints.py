"""Checkpoints of EfficientSAM, RepViT-SAM and EfficientViT-SAM: recognized, loaded, converted, and refused in part.

Names are those of the official files (`tests/model/data`); numbers do not matter, so tensors are zeros without memory.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sam_edge.model.sam import Sam
from sam_edge.weights.contents import Contents
from sam_edge.weights.conversion import convert
from sam_edge.weights.families import shapes_of_variant
from sam_edge.weights.load import load_sam
from sam_edge.weights.recognition import Recognized, normalized, recognize
from sam_edge.weights.source import parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError
from tests.model.stored import official_shapes

FILES = {
    **dict.fromkeys(("efficient_sam_vitt", "efficient_sam_vits"), "efficient_sam_state_dicts.json"),
    "repvit_sam": "repvit_sam_state_dict.json",
    **{f"efficientvit_sam_{size}": "efficientvit_sam_state_dicts.json" for size in ("l0", "l1", "l2", "xl0", "xl1")},
}


def zeros(variant: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(()).expand(shape) for name, shape in official_shapes(FILES[variant], variant).items()}


def found_in(tree: dict[Any, Any]) -> Recognized:
    return recognize(normalized(Contents((), tree, None), "weights.pt"))


@pytest.mark.parametrize("variant", list(FILES))
@pytest.mark.parametrize("nest", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_official_names_are_recognized(variant, nest):
    found = found_in(nest(zeros(variant)))
    assert found.variant == variant
    assert found.checkpoint.layout.title == "official names"
    assert {name: tuple(each.shape) for name, each in found.checkpoint.state.items()} == shapes_of_variant(variant)
    assert "own file: fine-tuned and converted weights have the same modules" in found.described


@pytest.mark.parametrize("variant", ["efficient_sam_vitt", "repvit_sam", "efficientvit_sam_l0"])
def test_a_missing_tensor_is_named(variant):
    state = zeros(variant)
    del state["mask_decoder.iou_token.weight"]
    with pytest.raises(CheckpointError, match=f"nearest is {variant}: missing mask_decoder.iou_token.weight"):
        found_in(state)


@pytest.mark.parametrize("variant", ["efficient_sam_vitt", "efficientvit_sam_l0"])
def test_a_file_is_converted_and_loaded_again(tmp_path, variant):
    state = {name: torch.full(each.shape, 0.25) for name, each in zeros(variant).items()}
    state = {name: each.long() if name.endswith("num_batches_tracked") else each for name, each in state.items()}
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    out = tmp_path / "weights.safetensors"
    assert convert(parse_source(tmp_path / "weights.pt"), out, "official").variant == variant
    loaded = load_sam("auto", parse_source(out))
    assert isinstance(loaded.sam, Sam)
    assert loaded.variant == variant
    assert all(bool((each == 0.25).all()) for each in loaded.sam.parameters())
    with pytest.raises(UsageError, match="has no names in the layout hf: choose --layout official"):
        convert(parse_source(out), tmp_path / "hf.safetensors", "hf")
