"""TinyViT-5M against MobileSAM: names and shapes of its checkpoint, its own output, and its rule for position biases.

`data/mobile_sam_state_dict.json` lists the tensors of `mobile_sam.pt`. `data/tiny_vit_embedding.npz` holds every
eighth channel of the output of MobileSAM's image encoder, in fp32 on a CPU, for standard normal numbers and weights
seeded by name. The tests compare with these files because they do not install MobileSAM's package.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam_edge.model import build_sam
from sam_edge.model.tiny_vit import TinyViT, TinyViTBlock, WindowAttention
from sam_edge.weights.seeded import seed_module, seeded_array
from tests.model.builders import BOUND, error, seed, seeded_tensor

DATA = Path(__file__).parent / "data"


# The checkpoint -----------------------------------------------------------------------------------------------------


def test_state_dict_is_that_of_mobile_sam_pt():
    official = json.loads((DATA / "mobile_sam_state_dict.json").read_text(encoding="utf-8"))["state_dict"]
    with torch.device("meta"):
        sam = build_sam("tiny_vit")
    ours = {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in sam.state_dict().items()}
    assert ours == official


def test_parameter_counts():
    with torch.device("meta"):
        sam = build_sam("tiny_vit")
    assert sum(parameter.numel() for parameter in sam.image_encoder.parameters()) == 6_065_532
    assert sum(parameter.numel() for parameter in sam.mask_decoder.parameters()) == 4_058_340


# The stored output --------------------------------------------------------------------------------------------------


def seeded_encoder() -> nn.Module:
    """The encoder with the weights of the stored output, whose names begin with `image_encoder.`."""
    sam = build_sam("tiny_vit")
    seed_module(sam, 0)
    return sam.image_encoder


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """The input of the stored output."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32))


@torch.inference_mode()
def test_embedding_equals_the_stored_output_of_mobile_sam(photo):
    """The stored output was computed with position biases of zero, not with the seeded ones.

    MobileSAM copies its biases to a buffer, `ab`, when `eval()` is called, not when weights are loaded. The model of
    the stored output was in evaluation mode before the weights were loaded, so `ab` held the initial zeros. In normal
    use `eval()` comes after loading, and the biases count: the tests below are about them.
    """
    encoder = seeded_encoder()
    for name, parameter in encoder.named_parameters():
        if name.endswith("attention_biases"):
            parameter.zero_()
    embedding = encoder(photo)
    with np.load(DATA / "tiny_vit_embedding.npz") as stored:
        assert error(embedding[:, ::8], stored["embedding_every_8th_channel"]) <= BOUND
        assert float(embedding.mean()) == pytest.approx(float(stored["mean"]), abs=1e-5)
        assert float(embedding.std(correction=0)) == pytest.approx(float(stored["std"]), abs=1e-5)


def test_seeded_weights_are_those_of_the_stored_output():
    """`seed_module` must keep giving the weights that the stored output was computed with."""
    weights = seeded_encoder().state_dict()
    name, shape = "layers.1.blocks.0.attn.qkv.weight", (384, 128)
    assert np.array_equal(weights[name], seeded_array(f"image_encoder.{name}", shape, 0))


# Position biases ----------------------------------------------------------------------------------------------------


def official_index(window: int) -> tuple[Tensor, int]:
    """The index of each pair's bias: MobileSAM numbers the distances in the order in which they appear."""
    points = list(itertools.product(range(window), range(window)))
    numbers: dict[tuple[int, int], int] = {}
    index = [
        numbers.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(numbers)) for a in points for b in points
    ]  # fmt: skip
    return torch.tensor(index).reshape(len(points), len(points)), len(numbers)


@pytest.mark.parametrize("window", [1, 2, 7, 14])
def test_biases_are_numbered_as_in_mobile_sam(window):
    index, count = official_index(window)
    attention = WindowAttention(8, 2, window)
    assert torch.equal(attention.index, index)
    assert attention.attention_biases.shape == (2, count)


def attend_by_hand(attention: WindowAttention, x: Tensor, window: int) -> Tensor:
    """One window, one head and one query at a time."""
    index, _ = official_index(window)
    heads, width = attention.heads, x.shape[-1] // attention.heads
    attended = torch.empty_like(x)
    for number, tokens in enumerate(attention.norm(x)):
        # MobileSAM lays each head's query, key and value side by side.
        qkv = (tokens @ attention.qkv.weight.T + attention.qkv.bias).reshape(-1, heads, 3, width)
        out = torch.empty(len(tokens), heads, width)
        for head in range(heads):
            query, key, value = qkv[:, head].unbind(1)
            for place in range(len(tokens)):
                scores = key @ query[place] / math.sqrt(width) + attention.attention_biases[head, index[place]]
                out[place, head] = scores.softmax(0) @ value
        attended[number] = out.flatten(1) @ attention.proj.weight.T + attention.proj.bias
    return attended


@torch.inference_mode()
@pytest.mark.parametrize(("dim", "heads", "window"), [(12, 3, 3), (64, 2, 7)])
def test_window_attention_equals_a_plain_loop(dim, heads, window):
    attention = WindowAttention(dim, heads, window)
    seed(attention)
    attention.attention_biases.mul_(5.0)  # from small numbers to ones that decide
    x = seeded_tensor("windows", 3, window**2, dim)
    by_hand = attend_by_hand(attention, x, window)
    assert error(attention(x), by_hand) <= BOUND
    attention.attention_biases.mul_(1.01)
    assert error(attention(x), by_hand) > BOUND


@torch.inference_mode()
def test_block_pads_before_the_norm_and_drops_the_padding():
    """A map of 5 x 4 in windows of 3: the padding is zero before the attention's norm, as it was in training."""
    dim, window = 12, 3
    block = TinyViTBlock(dim, 3, window).eval()
    seed(block)
    x = seeded_tensor("map", 1, dim, 5, 4)
    padded = torch.zeros(6, 6, dim)
    padded[:5, :4] = x[0].permute(1, 2, 0)
    attended = torch.empty(6, 6, dim)
    for top, left in itertools.product((0, 3), (0, 3)):
        tokens = padded[top : top + 3, left : left + 3].reshape(1, 9, dim)
        attended[top : top + 3, left : left + 3] = attend_by_hand(block.attn, tokens, window).reshape(3, 3, dim)
    after = block.local_conv(x + attended[:5, :4].permute(2, 0, 1))
    expected = after + block.mlp(after.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert error(block(x), expected) <= BOUND


# Other sides --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("side", [256, 448])
def test_the_encoder_takes_other_sides_as_it_is(side):
    encoder = TinyViT().eval()
    seed(encoder)
    photos = seeded_tensor("photos", 2, 3, side, side)
    embeddings = encoder(photos)
    assert embeddings.shape == (2, 256, side // 16, side // 16)
    assert torch.isfinite(embeddings).all()
    encoder.set_input_side(side)
    assert error(encoder(photos[1:]), embeddings[1:]) <= BOUND  # photos of a batch do not influence each other
