"""Each rewrite for the Neural Engine against the plain module with the same parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam, build_sam
from sam_edge.model.ane import ane_rewrite
from sam_edge.model.ane.attention import attend, split_keys, split_queries
from sam_edge.model.ane.layers import ChannelNorm, Pointwise, join_windows, split_windows
from sam_edge.model.ane.rewrite import REPLACEMENTS
from sam_edge.model.image_encoder import Block, ImageEncoderViT, RelativeAttention
from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MLP
from sam_edge.model.replacement import replace_any
from sam_edge.model.tiny_vit import TinyViTBlock, WindowAttention
from sam_edge.model.transformer import EMPTY_SLOT_BIAS, Attention, TwoWayTransformer
from tests.model.builders import NARROW, SHALLOW_B, error, every_prompt, photo, seed, seeded_tensor

EQUAL = 1e-5  # relative to the tensor's largest value: rounding of sums in another order
SIDE = 256

pytestmark = pytest.mark.usefixtures("without_gradients")


def rewritten(module: nn.Module) -> nn.Module:
    return replace_any(module, REPLACEMENTS)


def seeded(module: nn.Module) -> nn.Module:
    """`module` with seeded weights, norms and biases included, which start as ones and zeros."""
    seed(module)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 or "rel_pos" in name or "attention_biases" in name:
            parameter.copy_(seeded_tensor(name, *parameter.shape) + float("norm" in name and "weight" in name))
    return module.eval()


def bc1s(x: Tensor) -> Tensor:
    """`(B, S, C)` to `(B, C, 1, S)`."""
    return x.transpose(1, 2)[:, :, None]


def sequence(x: Tensor) -> Tensor:
    """`(B, C, 1, S)` to `(B, S, C)`."""
    return x[:, :, 0].transpose(1, 2)


# One rule each ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_a_1x1_convolution_equals_the_linear_layer(bias):
    plain = seeded(nn.Linear(24, 40, bias=bias))
    x = seeded_tensor("x", 2, 7, 24)
    ours = Pointwise(plain)
    assert ours.weight is plain.weight
    assert error(sequence(ours(bc1s(x))), plain(x)) <= EQUAL


def test_channel_norm_equals_layer_norm():
    plain = seeded(nn.LayerNorm(32, eps=1e-6))
    x = seeded_tensor("x", 2, 7, 32) * 5 + 3
    assert error(sequence(ChannelNorm(plain)(bc1s(x))), plain(x)) <= EQUAL


def test_channel_norm_equals_layer_norm_2d():
    plain = seeded(LayerNorm2d(32))
    x = seeded_tensor("x", 2, 32, 5, 6) * 5 + 3
    assert error(ChannelNorm(plain)(x), plain(x)) <= EQUAL


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-7, -1e-7, -2.0])
def test_channel_norm_equals_layer_norm_for_tiny_and_negative_scales(scale):
    plain = seeded(nn.LayerNorm(32))
    plain.weight[::3] = scale
    x = seeded_tensor("x", 2, 7, 32)
    assert error(sequence(ChannelNorm(plain)(bc1s(x))), plain(x)) <= EQUAL


def test_pointwise_mlp_equals_the_decoder_s_mlp():
    plain = seeded(MLP(16, 32, 8))
    x = seeded_tensor("x", 3, 16)
    assert error(rewritten(plain)(x), plain(x)) <= EQUAL


@pytest.mark.parametrize("hidden", [0, 3])
def test_headwise_attention_equals_multi_head_attention(hidden):
    plain = seeded(Attention(32, 4, downsample=2))
    q, k, v = seeded_tensor("q", 2, 5, 32), seeded_tensor("k", 2, 9, 32), seeded_tensor("v", 2, 9, 32)
    bias = torch.zeros(2, 1, 1, 9)
    bias[0, ..., 9 - hidden :] = EMPTY_SLOT_BIAS
    ours = rewritten(plain)(bc1s(q), bc1s(k), bc1s(v), bias.reshape(2, 9, 1, 1))
    assert error(sequence(ours), plain(q, k, v, bias)) <= EQUAL
    assert error(sequence(rewritten(plain)(bc1s(q), bc1s(k), bc1s(v))), plain(q, k, v)) <= EQUAL


@pytest.mark.parametrize("largest", [9 * 4, 9 * 5, 1])
@pytest.mark.parametrize("bias", [None, (1, 9, 1, 13), (2, 9, 1, 1)])
def test_queries_in_blocks_equal_all_queries_at_once(largest, bias):
    heads = 2
    q, k, v = seeded_tensor("q", 2, 8, 1, 13), seeded_tensor("k", 2, 8, 1, 9), seeded_tensor("v", 2, 12, 1, 9)
    biases = None if bias is None else [seeded_tensor(f"bias{head}", *bias) for head in range(heads)]
    parts = split_queries(q, heads), split_keys(k, heads), split_queries(v, heads)
    scores = q.reshape(2, heads, 4, 13).transpose(2, 3) @ k.reshape(2, heads, 4, 9)  # (B, heads, Q, K)
    if biases is not None:
        scores = scores + torch.stack([each[:, :, 0].transpose(1, 2) for each in biases], dim=1)
    out = scores.softmax(dim=-1) @ v.reshape(2, heads, 6, 9).transpose(2, 3)
    expected = out.transpose(2, 3).reshape(2, 12, 1, 13)
    assert error(attend(*parts, biases, largest=largest), expected) <= EQUAL
    assert error(attend(*parts, biases), expected) <= EQUAL


@pytest.mark.parametrize(("h", "w"), [(14, 14), (9, 16), (7, 6)])
def test_windows_are_split_and_joined(h, w):
    x = seeded_tensor("x", 2, 3, h, w)
    windows, padded = split_windows(x, 7)
    rows, columns = padded[0] // 7, padded[1] // 7
    assert windows.shape == (2 * rows * columns, 3, 1, 49)
    whole = nn.functional.pad(x, (0, padded[1] - w, 0, padded[0] - h))
    last = windows[-1].reshape(3, 7, 7)
    assert torch.equal(last, whole[-1, :, -7:, -7:])
    assert torch.equal(join_windows(windows, 7, padded, (h, w)), x)


# Modules --------------------------------------------------------------------------------------------------------------


def test_relative_attention_equals_the_plain_one():
    plain = seeded(RelativeAttention(32, 4, 6))
    x = seeded_tensor("x", 2, 6, 6, 32)
    ours = rewritten(plain)(bc1s(x.flatten(1, 2)), 6, 6)
    assert error(sequence(ours), plain(x).flatten(1, 2)) <= EQUAL


@pytest.mark.parametrize(("window", "side"), [(0, 6), (4, 6), (3, 6)])
def test_vit_block_equals_the_plain_one(window, side):
    plain = seeded(Block(NARROW, window, side))
    x = seeded_tensor("x", 2, side, side, NARROW.dim)
    ours = rewritten(plain)(bc1s(x.flatten(1, 2)), side, side)
    assert error(sequence(ours), plain(x).flatten(1, 2)) <= EQUAL


def test_window_attention_equals_the_plain_one_with_its_biases():
    plain = seeded(WindowAttention(30, 5, 7))
    x = seeded_tensor("x", 3, 49, 30)
    assert error(sequence(rewritten(plain)(bc1s(x))), plain(x)) <= EQUAL


def test_tiny_vit_block_equals_the_plain_one():
    plain = seeded(TinyViTBlock(32, 2, 7))
    x = seeded_tensor("x", 2, 32, 10, 14)
    assert error(rewritten(plain)(x), plain(x)) <= EQUAL


def test_two_way_transformer_equals_the_plain_one():
    plain = seeded(TwoWayTransformer(32, heads=4, hidden=64))
    image, places, tokens = seeded_tensor("i", 2, 36, 32), seeded_tensor("p", 1, 36, 32), seeded_tensor("t", 2, 9, 32)
    bias = torch.zeros(2, 1, 1, 9)
    bias[1, ..., -2:] = EMPTY_SLOT_BIAS
    for ours, theirs in zip(
        rewritten(plain)(image, places, tokens, bias), plain(image, places, tokens, bias), strict=True
    ):
        assert error(ours, theirs) <= EQUAL


# Graphs ---------------------------------------------------------------------------------------------------------------


def sam_of(encoder: nn.Module, side: int) -> Sam:
    sam = Sam(encoder)
    seeded(sam)
    sam.set_input_side(side)
    return sam


def assert_equal_outputs(graph: EncoderGraph | DecoderGraph, inputs: tuple[Tensor, ...]) -> None:
    ours, theirs = ane_rewrite(graph)(*inputs), graph(*inputs)
    for a, b in zip(*((each if isinstance(each, tuple) else (each,)) for each in (ours, theirs)), strict=True):
        assert error(a, b) <= EQUAL


@pytest.mark.parametrize(("config", "side"), [(NARROW, 256), (NARROW, 1024), (SHALLOW_B, 320)])
def test_vit_encoder_graphs_equal_the_plain_ones(config, side):  # at 1024 queries come in blocks
    assert_equal_outputs(EncoderGraph(sam_of(ImageEncoderViT(config), side)).eval(), (photo(side),))


@pytest.mark.parametrize("name", ["tiny_vit", "nano", "small"])
def test_tiny_vit_and_nano_encoder_graphs_equal_the_plain_ones(name):
    sam = build_sam(name)
    seeded(sam)
    sam.set_input_side(SIDE)
    assert_equal_outputs(EncoderGraph(sam).eval(), (photo(SIDE),))


@pytest.mark.parametrize("name", ["tiny_vit", "nano"])  # SAM's decoder, and nano's
def test_decoder_graphs_equal_the_plain_ones(name):
    sam = build_sam(name)
    seeded(sam)
    sam.set_input_side(SIDE)
    assert_equal_outputs(DecoderGraph(sam).eval(), every_prompt(sam))


def test_parameters_are_shared_and_the_plain_graph_is_unchanged():
    graph = DecoderGraph(sam_of(ImageEncoderViT(NARROW), SIDE)).eval()
    kinds = [type(module) for module in graph.modules()]
    copied = ane_rewrite(graph)
    assert isinstance(copied, DecoderGraph)
    assert [type(module) for module in graph.modules()] == kinds
    ours = {id(parameter) for parameter in copied.parameters()}
    assert ours == {id(parameter) for parameter in graph.parameters()}
    assert not any(isinstance(module, nn.Linear | nn.LayerNorm | LayerNorm2d) for module in copied.modules())


def test_the_copy_has_a_training_mode_of_its_own():
    graph = EncoderGraph(build_sam("tiny_vit")).eval()
    copied = ane_rewrite(graph)
    assert not copied.training
    copied.train()
    assert not any(module.training for module in graph.modules())
