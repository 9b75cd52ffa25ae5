"""The ViT image encoders against segment_anything's, at 1024 and at other sides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sam_edge.model import build_sam, image_encoder
from sam_edge.model.image_encoder import Block, ImageEncoderViT, ViTConfig
from sam_edge.model.layers import join_windows, split_windows
from sam_edge.model.sam import Sam
from sam_edge.model.variants import VIT_B, VIT_H, VIT_L
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.errors import UsageError
from tests.model.builders import (
    BOUND,
    NARROW,
    SHALLOW_B,
    SHALLOW_H,
    SHALLOW_L,
    encoder_pair,
    error,
    photo,
    resized_pair,
    seed,
    seeded_tensor,
)
from tests.reference import import_segment_anything


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("variant", ["vit_b", "vit_l", "vit_h"])
def test_state_dict_has_the_official_names_and_shapes(variant):
    with torch.device("meta"):
        ours = build_sam(variant)
        theirs = import_segment_anything().sam_model_registry[variant]()
    assert shapes(ours) == shapes(theirs)


def test_shallow_encoders_have_the_widths_of_the_full_ones():
    for shallow, full in ((SHALLOW_B, VIT_B), (SHALLOW_L, VIT_L), (SHALLOW_H, VIT_H)):
        assert (shallow.dim, shallow.heads) == (full.dim, full.heads)


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(SHALLOW_B, id="b", marks=pytest.mark.slow),  # at smaller sides below
        pytest.param(SHALLOW_L, id="l", marks=pytest.mark.slow),
        pytest.param(SHALLOW_H, id="h", marks=pytest.mark.slow),
    ],
)
def test_embedding_at_1024_equals_the_reference(config):
    ours, theirs = encoder_pair(config)
    image = seeded_tensor("image", 1, 3, 1024, 1024)
    assert error(ours(image), theirs(image)) <= BOUND


@pytest.mark.slow
@torch.inference_mode()
def test_whole_vit_b_at_1024_equals_the_reference():
    ours, theirs = encoder_pair(VIT_B)
    image = seeded_tensor("image", 1, 3, 1024, 1024)
    assert error(ours(image), theirs(image)) <= BOUND


# Other sides --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize(
    ("config", "side", "photos"),
    [
        pytest.param(SHALLOW_B, 256, 2, id="b-256"),
        pytest.param(SHALLOW_L, 512, 1, id="l-512"),
        pytest.param(SHALLOW_H, 512, 1, id="h-512"),
        pytest.param(NARROW, 320, 2, id="narrow-320"),
        pytest.param(NARROW, 448, 1, id="narrow-448"),
        pytest.param(NARROW, 960, 1, id="narrow-960"),
    ],
)
def test_embedding_at_other_sides_equals_the_reference(config, side, photos):
    ours, theirs = resized_pair(config, side)
    image = seeded_tensor("image", photos, 3, side, side)
    assert error(ours(image), theirs(image)) <= BOUND


@torch.inference_mode()
def test_the_positions_are_large_enough_to_change_the_output():
    """Otherwise the test above would not notice wrong positions."""
    ours, theirs = resized_pair(NARROW, 256)
    image = seeded_tensor("image", 1, 3, 256, 256)
    expected = theirs(image)
    attention = ours.blocks[1].attn
    for parameter in (ours.pos_embed, attention.rel_pos_h, attention.rel_pos_w):
        kept = parameter.clone()
        parameter.mul_(1.01)
        assert error(ours(image), expected) > 5 * BOUND
        parameter.copy_(kept)


def test_windows_keep_their_positions():
    encoder = ImageEncoderViT(NARROW)
    before = encoder.blocks[0].attn.rel_pos_h
    encoder.set_input_side(512)
    assert encoder.blocks[0].attn.rel_pos_h is before
    assert before.shape == (27, 32)


def test_setting_the_native_side_changes_nothing():
    sam = Sam(ImageEncoderViT(NARROW))
    before = shapes(sam)
    sam.set_input_side(1024)
    assert (sam.side, shapes(sam)) == (1024, before)
    sam.set_input_side(512)  # the one change is still possible
    assert (sam.side, sam.prompt_encoder.side, sam.image_encoder.pos_embed.shape[1]) == (512, 512, 32)


def test_a_vit_s_side_can_be_changed_once():
    sam = Sam(ImageEncoderViT(NARROW))
    sam.set_input_side(512)
    sam.set_input_side(512)  # no change
    for side in (256, 1024):
        with pytest.raises(UsageError, match="already changed to 512"):
            sam.set_input_side(side)
    assert sam.side == 512


@pytest.mark.parametrize("side", [0, -64, 192, 300, 511, 1000, 1025, 1088])
def test_impossible_sides_are_refused(side):
    sam = Sam(ImageEncoderViT(NARROW))
    with pytest.raises(UsageError, match=f"input size {side} is not possible: choose a multiple of 64 from 256"):
        sam.set_input_side(side)
    assert (sam.side, sam.image_encoder.pos_embed.shape[1]) == (1024, 64)


def test_joining_windows_undoes_splitting():
    image = seeded_tensor("map", 2, 10, 9, 3)
    windows, padded = split_windows(image, 7)
    assert (tuple(windows.shape), padded) == ((2 * 4, 7, 7, 3), (14, 14))
    assert torch.equal(windows[0], image[0, :7, :7])
    assert torch.equal(windows[6, :3], image[1, 7:, :7])  # second photo, second row of windows, first column
    assert not windows[6, 3:].any()
    assert torch.equal(join_windows(windows, 7, padded, (10, 9)), image)


@pytest.mark.parametrize("block", [1, 60, 64, 255])
def test_queries_in_blocks_equal_all_queries_at_once(block, monkeypatch):
    encoder = ImageEncoderViT(NARROW)
    seed(encoder)
    encoder.set_input_side(256)  # 16 x 16 cells
    encoder.requires_grad_(requires_grad=False)
    image = photo(256) / 60 - 2
    whole = encoder(image)
    monkeypatch.setattr(image_encoder, "QUERY_BLOCK", block)
    sizes = []
    real = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: sizes.append(x.shape[-2]) or real(x, dim))
    assert error(encoder(image), whole) <= 1e-6
    assert max(sizes[-2:]) <= block


def test_a_pruned_block_attends_with_the_widths_that_are_left():
    """Against the definition, position by position: 3 heads of 5 channels in a block of 8 channels, MLP of 7."""
    config = ViTConfig(dim=8, depth=1, heads=3, global_blocks=(0,), attention_widths=(15,), mlp_widths=(7,))
    block = Block(config, 0, 4)
    seed_module(block, 1)
    cells = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    x = cells
    normed = F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias, 1e-6).reshape(16, 8)
    q, k, v = block.attn.qkv(normed).reshape(16, 3, 3, 5).unbind(1)  # (positions, heads, channels)
    out = torch.empty(16, 3, 5)
    for head in range(3):
        for at in range(16):
            scores = torch.stack(
                [
                    q[at, head] @ k[other, head] / 5**0.5
                    + q[at, head] @ block.attn.rel_pos_h[at // 4 - other // 4 + 3]
                    + q[at, head] @ block.attn.rel_pos_w[at % 4 - other % 4 + 3]
                    for other in range(16)
                ]
            )
            out[at, head] = scores.softmax(0) @ v[:, head]
    x = x.reshape(16, 8) + block.attn.proj(out.reshape(16, 15))
    x = x + block.mlp.lin2(F.gelu(block.mlp.lin1(F.layer_norm(x, (8,), block.norm2.weight, block.norm2.bias, 1e-6))))
    assert block.mlp.lin1.out_features == 7
    torch.testing.assert_close(block(cells).reshape(16, 8), x)
