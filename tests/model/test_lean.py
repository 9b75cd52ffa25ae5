"""The lean decoder has the plain one's outputs, from the same parameters."""

from __future__ import annotations

import pytest
import torch

from sam_edge.model import DecoderGraph
from sam_edge.model.lean import attention_is_cheaper, lean_rewrite
from sam_edge.model.lean.attention import ImageReadsTokens, TokensReadImage
from tests.model.builders import BOUND, error, every_prompt, seeded_sam

SIDE = 256


@pytest.fixture(scope="module", params=["tiny_vit", "nano"])  # SAM's decoder, and nano's
def sam(request):
    return seeded_sam(request.param, SIDE)


def test_outputs_equal_those_of_the_plain_decoder(sam):
    plain = DecoderGraph(sam).eval()
    prompts = every_prompt(sam)
    for found, expected in zip(lean_rewrite(plain)(*prompts), plain(*prompts), strict=True):
        assert expected.abs().max() > 0.01
        assert error(found, expected) <= BOUND


def test_every_attention_to_the_image_is_replaced_and_parameters_are_shared(sam):
    plain = DecoderGraph(sam).eval()
    lean = lean_rewrite(plain)
    kinds = [type(module) for module in lean.modules()]
    assert (kinds.count(TokensReadImage), kinds.count(ImageReadsTokens)) == (3, 2)
    assert not any(isinstance(module, TokensReadImage) for module in plain.modules())
    kept = {id(each) for each in lean.parameters()}
    other = {name: each for name, each in plain.named_parameters() if id(each) not in kept}
    assert kept == {id(each) for each in plain.parameters()} - {id(each) for each in other.values()}
    assert {tuple(name.split(".")[-3:]) for name in other} == {
        *((f"{attention}_attn_token_to_image", "k_proj", "bias") for attention in ("cross", "final")),
        *((f"{a}_attn_token_to_image", f"{kv}_proj", "weight") for a in ("cross", "final") for kv in "kv"),
        *(("cross_attn_image_to_token", f"{each}_proj", "weight") for each in ("q", "out")),
    }
    held = {each.untyped_storage().data_ptr() for each in lean.buffers()}  # split by heads, not copied
    assert all(each.untyped_storage().data_ptr() in held for name, each in other.items() if name.endswith("weight"))


def test_an_empty_slot_stays_hidden(sam):
    embeddings, coords, labels, *mask = every_prompt(sam)
    lean = lean_rewrite(DecoderGraph(sam).eval())
    moved = torch.where((labels == -2).unsqueeze(-1), coords + 50, coords)
    assert not torch.equal(moved, coords)
    for found, expected in zip(
        lean(embeddings, moved, labels, *mask), lean(embeddings, coords, labels, *mask), strict=True
    ):
        assert torch.equal(found, expected)


def test_the_lean_attention_is_cheaper_for_few_slots_only(sam):
    plain = DecoderGraph(sam).eval()
    assert attention_is_cheaper(plain, None)
    assert attention_is_cheaper(plain, 8)
    assert not attention_is_cheaper(plain, 16)
