"""Graphs of frames that are no squares, and what ties them to the square."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge.model.ane import ane_rewrite
from sam_edge.model.image_encoder import Block, ImageEncoderViT, relative_table
from sam_edge.model.layers import join_windows, split_windows
from sam_edge.model.lean import lean_rewrite
from sam_edge.model.prompt_encoder import SeparablePositions
from sam_edge.model.sam import Sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge_runtime.bundle.contract import FrameSize
from tests.model.builders import BOUND, NARROW, error, every_prompt, seed, seeded_sam, seeded_tensor

SIDE = 256
WIDE, TALL = FrameSize(160, 256), FrameSize(256, 192)


def small_vit() -> ImageEncoderViT:
    encoder = ImageEncoderViT(NARROW)
    seed(encoder)
    encoder.set_input_side(SIDE)
    return encoder.requires_grad_(requires_grad=False)


def tokens_of_square(encoder: ImageEncoderViT, image: Tensor, h: int, w: int) -> Tensor:
    """Tokens of the cells inside h x w of a square, where those outside are zero in windows and no keys elsewhere."""
    x = encoder.patch_embed(image) + encoder.pos_embed
    for block in encoder.blocks:
        attended = block.norm1(x)
        attended[:, h:] = attended[:, :, w:] = 0
        if block.window:
            windows, padded = split_windows(attended, block.window)
            attended = join_windows(block.attn(windows), block.window, padded, (x.shape[1], x.shape[2]))
        else:
            attended = masked_attention(block, attended, h, w)
        x = x + attended
        x = x + block.mlp(block.norm2(x))
    return x[:, :h, :w]


def masked_attention(block: Block, x: Tensor, h: int, w: int) -> Tensor:
    attn, size = block.attn, x.shape[1]
    q, k, v = (part.reshape(size**2, attn.heads, -1).transpose(0, 1) for part in attn.qkv(x)[0].chunk(3, dim=-1))
    scores = (q * attn.head_dim**-0.5) @ k.mT
    maps = q.reshape(attn.heads, size, size, -1)
    by_row = torch.einsum("nhwd,hkd->nhwk", maps, relative_table(attn.rel_pos_h, size))
    by_column = torch.einsum("nhwd,wkd->nhwk", maps, relative_table(attn.rel_pos_w, size))
    scores = scores.reshape(-1, size, size, size, size) + by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
    scores[..., h:, :] = scores[..., :, w:] = -torch.inf
    out = scores.reshape(attn.heads, size**2, -1).softmax(dim=-1) @ v
    return attn.proj(out.transpose(0, 1).reshape(1, size, size, -1))


@torch.inference_mode()
@pytest.mark.parametrize("frame", [WIDE, TALL])
def test_a_vit_has_the_squares_tokens_with_padding_masked_out(frame):
    encoder, seen = small_vit(), []
    encoder.neck.register_forward_pre_hook(lambda neck, inputs: seen.append(inputs[0].permute(0, 2, 3, 1)))
    image = seeded_tensor("image", 1, 3, SIDE, SIDE)
    encoder(image[:, :, : frame.height, : frame.width])
    assert error(seen[0], tokens_of_square(encoder, image, *frame.grid)) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("variant", ["nano", "tiny_vit"])
def test_where_convolutions_cross_the_border_the_difference_fades_away_from_it(variant):
    sam = build_sam(variant)
    seed(sam)
    image = seeded_tensor("image", 1, 3, 448, 448)
    frame = sam.image_encoder(image[:, :, :224])
    square = sam.image_encoder(image)[:, :, : frame.shape[2]]
    by_row = (frame - square).abs().mean(dim=(0, 1, 3)) / square.abs().mean()
    assert by_row[-1] > 0.1
    assert by_row[: len(by_row) // 2].max() < 0.2 * by_row[-1]


@pytest.fixture(scope="module", params=["tiny_vit", "nano"])  # SAM's decoder, and nano's
def sam(request):
    return seeded_sam(request.param, SIDE)


def prompts_in(sam: Sam, frame: FrameSize) -> tuple[Tensor, ...]:
    embeddings, coords, labels, masks, has_mask = every_prompt(sam)
    (rows, columns), (high, wide) = frame.grid, frame.cells
    return embeddings[:, :, :rows, :columns], coords, labels, masks[:, :, :high, :wide], has_mask


@torch.inference_mode()
@pytest.mark.parametrize("frame", [WIDE, TALL])
def test_positions_are_those_of_the_square_cropped(sam, frame):
    rows, columns = frame.grid
    whole = sam.prompt_encoder.dense_positions()
    assert torch.equal(sam.prompt_encoder.dense_positions(frame.grid), whole[:, :, :rows, :columns])
    tables = SeparablePositions(sam.prompt_encoder, frame.grid)()
    assert error(tables, whole[:, :, :rows, :columns]) <= BOUND


@torch.inference_mode()
def test_prompt_maps_of_nano_are_those_of_the_square_cropped(sam):
    _, *prompts = every_prompt(sam)
    _, *cropped = prompts_in(sam, WIDE)
    whole, part = (sam.prompt_encoder(*each)[1] for each in (prompts, cropped))
    rows, columns = part.shape[2:]
    assert (rows, columns) in {WIDE.grid, WIDE.cells}
    assert error(part, whole[:, :, :rows, :columns]) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("frame", [WIDE, TALL])
@pytest.mark.parametrize("rewrite", [lean_rewrite, ane_rewrite])
def test_rewritten_decoders_have_the_plain_ones_outputs(sam, frame, rewrite):
    plain = DecoderGraph(sam, frame=frame).eval()
    prompts = prompts_in(sam, frame)
    for found, expected in zip(rewrite(plain)(*prompts), plain(*prompts), strict=True):
        assert found.shape[2:] in {frame.cells, ()}
        assert error(found, expected) <= BOUND


@torch.inference_mode()
def test_the_rewritten_vit_has_the_plain_ones_output():
    plain = EncoderGraph(Sam(small_vit())).eval()
    image = (seeded_tensor("image", 1, 3, *WIDE) * 60 + 120).clamp(0, 255)
    assert error(ane_rewrite(plain)(image), plain(image)) <= BOUND


def test_torch_takes_every_frame(sam):
    backend = TorchBackend(sam)
    for frame in (WIDE, TALL, FrameSize.square(SIDE)):
        prompts = [each.numpy() for each in prompts_in(sam, frame)]
        expected = DecoderGraph(sam, frame=frame).eval()(*(torch.from_numpy(each) for each in prompts))
        for found, wanted in zip(backend.decode((prompts[0],), *prompts[1:])[:2], expected, strict=True):
            assert error(found, wanted) <= BOUND
