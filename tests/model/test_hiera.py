"""SAM 2.1's image encoders against the official code: names and shapes of the checkpoints, and stored outputs.

`data/sam2_image_encoders.json` lists the tensors of the four checkpoints below `image_encoder`.
`data/sam2_image_encoders.npz` holds parts of what facebookresearch/sam2 (commit 2b90b9f5) computes in fp32 on a CPU,
for standard normal numbers and weights seeded by name: the trunk's outputs, the image embedding with `no_mem_embed`
added, and the high-resolution features behind `conv_s0` and `conv_s1`, with the mean and deviation of each whole map.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.feature_pyramid import PyramidImageEncoder
from sam_edge.model.hiera import (
    HIERA_BASE_PLUS,
    HIERA_LARGE,
    HIERA_SMALL,
    HIERA_TINY,
    Hiera,
    HieraBlock,
    HieraConfig,
    PooledAttention,
)
from sam_edge.weights.seeded import seed_module, seeded_array

DATA = Path(__file__).parent / "data"
CONFIGS = {"tiny": HIERA_TINY, "small": HIERA_SMALL, "base_plus": HIERA_BASE_PLUS, "large": HIERA_LARGE}
# Largest differences from the official code. Rounding moves tiny's trunk by 8e-6 and its embedding by 2e-5 (fp32
# against fp64), another epsilon of the norms the trunk by 7e-5. Large's features are larger.
TRUNK = {"tiny": 3e-5, "small": 3e-5, "base_plus": 3e-5, "large": 2e-4}
FEATURES = {"tiny": 1e-4, "small": 1e-4, "base_plus": 1e-4, "large": 2e-4}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_state_dict_is_that_of_the_checkpoint(name):
    official = json.loads((DATA / "sam2_image_encoders.json").read_text(encoding="utf-8"))[name]
    with torch.device("meta"):
        encoder = PyramidImageEncoder(Hiera(CONFIGS[name]))
    assert {key: list(tensor.shape) for key, tensor in encoder.state_dict().items()} == official


def seeded_conv(name: str, x: Tensor, channels: int) -> Tensor:
    """A 1 x 1 convolution of the mask decoder with seeded weights."""
    weight = torch.from_numpy(seeded_array(f"sam_mask_decoder.{name}.weight", (channels, 256, 1, 1), 0))
    return F.conv2d(x, weight, torch.from_numpy(seeded_array(f"sam_mask_decoder.{name}.bias", (channels,), 0)))


@pytest.mark.parametrize(
    "name", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("small", "base_plus", "large"))]
)
def test_outputs_equal_those_of_the_official_code(name):
    encoder = PyramidImageEncoder(Hiera(CONFIGS[name])).eval().requires_grad_(requires_grad=False)
    seed_module(nn.ModuleDict({"image_encoder": encoder}), 0)
    photo = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    with torch.inference_mode():
        maps = encoder.trunk(photo)
        at_4, at_8, embedding = encoder.neck(maps)
        embedding = embedding + torch.from_numpy(seeded_array("no_mem_embed", (1, 1, 256), 0)).reshape(1, 256, 1, 1)
        outputs = {
            "image_embed": (embedding[0], (4, 3, 3), FEATURES[name]),
            "high_res_0": (seeded_conv("conv_s0", at_4, 32)[0], (4, 7, 7), FEATURES[name]),
            "high_res_1": (seeded_conv("conv_s1", at_8, 64)[0], (4, 5, 5), FEATURES[name]),
        }
    for level, step in enumerate((14, 10, 6, 4)):
        part = maps[level][0]
        outputs[f"trunk_{level}"] = (part, (part.shape[0] // 16, step, step), TRUNK[name])
    with np.load(DATA / "sam2_image_encoders.npz") as stored:
        for key, (whole, (channels, rows, columns), bound) in outputs.items():
            ours, theirs = whole[::channels, ::rows, ::columns].numpy(), stored[f"{name}_{key}"]
            ours = ours[:: 4 if key == "image_embed" or name != "tiny" else 1]  # what the file holds
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound, err_msg=key)
            assert whole.double().mean().item() == pytest.approx(float(stored[f"{name}_{key}_mean"]), abs=bound)
            assert whole.double().std(correction=0).item() == pytest.approx(
                float(stored[f"{name}_{key}_std"]), abs=bound
            )


@torch.inference_mode()
def test_queries_of_several_blocks_attend_as_the_definition_says():
    """1,024 queries, which take two blocks, after pooling of 64 x 64 cells to 32 x 32."""
    attention = PooledAttention(6, 8, 2, pool=True)
    seed_module(attention, 1)
    x = torch.randn(1, 64, 64, 6, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.reshape(1, 64 * 64, 2, 4).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    q = F.max_pool2d(q.transpose(2, 3).reshape(1, 8, 64, 64), 2).reshape(1, 2, 4, 1024).transpose(2, 3)
    expected = attention.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 32, 32, 8))
    torch.testing.assert_close(attention(x), expected)


@torch.inference_mode()
def test_a_frame_of_any_multiple_of_32_is_encoded():
    config = HieraConfig(8, 1, (1, 1, 2, 1), (8, 4, 14, 7), (3,))
    encoder = PyramidImageEncoder(Hiera(config)).eval()
    seed_module(encoder, 0)
    shapes = [tuple(each.shape) for each in encoder(torch.zeros(1, 3, 96, 160))]
    assert shapes == [(1, 256, 24, 40), (1, 256, 12, 20), (1, 256, 6, 10)]


def test_the_first_block_of_a_stage_has_the_windows_of_the_stage_before():
    blocks = [block for block in Hiera(HIERA_TINY).blocks if isinstance(block, HieraBlock)]
    assert [block.window for block in blocks] == [8, 8, 4, 4, 14, 0, 14, 0, 14, 0, 14, 7]
    assert [index for index, block in enumerate(blocks) if block.pool] == [1, 3, 10]
