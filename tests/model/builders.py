"""The reference's modules and ours with the same seeded weights, and the difference of two outputs.

Every size of the reference is written out here as in `segment_anything/build_sam.py`, independent of our code.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model import build_sam
from sam_edge.model.image_encoder import ImageEncoderViT, ViTConfig
from sam_edge.model.sam import Sam
from sam_edge.weights.seeded import seed_module, seeded_array
from sam_edge_runtime.bundle.contract import Label
from tests.reference import import_segment_anything

BOUND = 1e-4  # parity in fp32, relative to the tensor's largest value

# The widths of the real models, and one block of each kind.
SHALLOW_B = ViTConfig(dim=768, depth=2, heads=12, global_blocks=(1,))
SHALLOW_L = ViTConfig(dim=1024, depth=2, heads=16, global_blocks=(1,))
SHALLOW_H = ViTConfig(dim=1280, depth=2, heads=16, global_blocks=(1,))
# The smallest with a window, a global layer and two heads.
NARROW = ViTConfig(dim=64, depth=2, heads=2, global_blocks=(1,))

# `seed_module` draws these too small for an error in them to show. The factors raise absolute positions to a deviation
# of 0.5 and the frequencies of the position encoding to 1, as in a trained SAM.
RAISED = {
    "pos_embed": 0.5 * (64 * 64 * 768) ** 0.5,
    "pe_layer.positional_encoding_gaussian_matrix": 128**0.5,
}


def seed(module: nn.Module, number: int = 0) -> None:
    """Seeded weights, each large enough that an error in it changes the output."""
    seed_module(module, number)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            for ending, factor in RAISED.items():
                if name.endswith(ending):
                    tensor.mul_(factor)


def seeded_tensor(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that belong to `name`."""
    values = seeded_array(f"{name}.unit", (int(np.prod(shape)),), 0).reshape(shape) / 0.05
    return torch.from_numpy(values.astype(np.float32))


def seeded_sam(variant: str, side: int) -> Sam:
    """A variant with seeded weights for frames of `side` pixels."""
    sam = build_sam(variant)
    seed(sam)
    sam.set_input_side(side)
    return sam.requires_grad_(requires_grad=False)


def photo(side: int) -> Tensor:
    """A frame of seeded noise, `(1, 3, side, side)` in 0..255."""
    return (seeded_tensor("image", 1, 3, side, side) * 60 + 120).clamp(0, 255)


def every_prompt(sam: Sam) -> tuple[Tensor, ...]:
    """A decoder's inputs in the contract's order: clicks, and a box with a mask, in six slots, some empty."""
    slots, grid = 6, sam.side // 16
    labels = torch.full((2, slots), float(Label.EMPTY))
    labels[0, :3] = torch.tensor([Label.FOREGROUND, Label.BACKGROUND, Label.PADDING])
    labels[1, :2] = torch.tensor([Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT])
    return (
        seeded_tensor("embeddings", 1, sam.channels, grid, grid),
        seeded_tensor("coords", 2, slots, 2).mul(60).add(128).clamp(0, sam.side),
        labels,
        seeded_tensor("mask", 2, 1, 4 * grid, 4 * grid) * 4,
        torch.tensor([0.0, 1.0]),
    )


def gap(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> float:
    """Largest absolute difference, in units of the tensors."""
    a, b = (np.asarray(x.detach() if isinstance(x, Tensor) else x, np.float64) for x in (ours, theirs))
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def error(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> float:
    """Largest absolute difference, relative to the largest absolute value of `theirs`."""
    return gap(ours, theirs) / float(np.abs(np.asarray(theirs)).max())


def reference_encoder(config: ViTConfig, side: int = 1024) -> nn.Module:
    """The reference's image encoder for frames of `side` pixels."""
    modeling = import_segment_anything().modeling
    return modeling.ImageEncoderViT(
        depth=config.depth,
        embed_dim=config.dim,
        img_size=side,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=config.heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=config.global_blocks,
        window_size=14,
        out_chans=256,
    ).eval()


def encoder_pair(config: ViTConfig) -> tuple[ImageEncoderViT, nn.Module]:
    """Our encoder and the reference's at 1024; loading strictly proves that names and shapes are the same."""
    ours, theirs = ImageEncoderViT(config).eval(), reference_encoder(config)
    seed(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def resized_pair(config: ViTConfig, side: int) -> tuple[ImageEncoderViT, nn.Module]:
    """Our encoder after `set_input_side`, and the reference built for that side.

    The reference gets absolute positions that torch resized, and relative ones as they were at 1024: it resizes those
    itself at every call (`get_rel_pos`).
    """
    ours, theirs = ImageEncoderViT(config).eval(), reference_encoder(config, side)
    seed(ours)
    grid = side // 16
    weights = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    absolute = F.interpolate(weights["pos_embed"].permute(0, 3, 1, 2), (grid, grid), mode="bicubic")
    weights["pos_embed"] = absolute.permute(0, 2, 3, 1)
    for index in config.global_blocks:
        for name in ("rel_pos_h", "rel_pos_w"):
            table = weights[f"blocks.{index}.attn.{name}"]
            assert len(table) == 127
            setattr(theirs.blocks[index].attn, name, nn.Parameter(torch.empty_like(table)))
    theirs.load_state_dict(weights, strict=True)
    ours.set_input_side(side)
    return ours, theirs


def reference_sam(encoder: nn.Module, side: int = 1024) -> nn.Module:
    """The reference's SAM on an image encoder, for frames of `side` pixels."""
    modeling = import_segment_anything().modeling
    return modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256,
            image_embedding_size=(side // 16, side // 16),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    ).eval()


def sam_pair(config: ViTConfig) -> tuple[Sam, nn.Module]:
    """Our SAM and the reference's at 1024 with the same weights."""
    ours, theirs = Sam(ImageEncoderViT(config)).eval(), reference_sam(reference_encoder(config))
    seed(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs
