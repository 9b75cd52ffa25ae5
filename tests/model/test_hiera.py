"""SAM 2.1's image encoders: names and shapes of the official checkpoints, and the parts of Hiera.

`data/sam2_image_encoders.json` lists the tensors of the four checkpoints below `image_encoder`. Outputs are compared
with those of the official code in `test_sam2.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sam_edge.model import EncoderGraph
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
from sam_edge.model.lean import with_positions_for
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM_2

DATA = Path(__file__).parent / "data"
CONFIGS = {"tiny": HIERA_TINY, "small": HIERA_SMALL, "base_plus": HIERA_BASE_PLUS, "large": HIERA_LARGE}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_state_dict_is_that_of_the_checkpoint(name):
    official = json.loads((DATA / "sam2_image_encoders.json").read_text(encoding="utf-8"))[name]
    with torch.device("meta"):
        encoder = PyramidImageEncoder(Hiera(CONFIGS[name]))
    assert {key: list(tensor.shape) for key, tensor in encoder.state_dict().items()} == official


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
    assert shapes == [(1, 256, 6, 10), (1, 256, 24, 40), (1, 256, 12, 20)]
    assert [(each.channels, each.stride) for each in encoder.further_outputs] == [(256, 4), (256, 8)]


def test_the_first_block_of_a_stage_has_the_windows_of_the_stage_before():
    blocks = [block for block in Hiera(HIERA_TINY).blocks if isinstance(block, HieraBlock)]
    assert [block.window for block in blocks] == [8, 8, 4, 4, 14, 0, 14, 0, 14, 0, 14, 7]
    assert [index for index, block in enumerate(blocks) if block.pool is not None] == [1, 3, 10]


@pytest.mark.parametrize("frame", [FrameSize(256, 256), FrameSize(160, 256), FrameSize(1024, 704)])
def test_positions_by_products_equal_the_bicubic_resize(frame):
    sam = Sam(PyramidImageEncoder(Hiera(HIERA_TINY)), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2).eval()
    seed_module(sam, 0)
    plain = EncoderGraph(sam)
    rewritten = with_positions_for(plain, frame)
    cells = frame.cells
    with torch.inference_mode():
        expected, found = (graph.image_encoder.trunk.positions(*cells) for graph in (plain, rewritten))
        assert found.shape == (1, *cells, 96)
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
        if frame.side == 256:
            image = torch.rand(1, 3, *frame) * 255
            for ours, theirs in zip(rewritten(image), plain(image), strict=True):
                assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
