"""EfficientSAM's image encoder: a plain ViT that attends globally in every block.

Source: "EfficientSAM" (https://arxiv.org/abs/2312.00863, section 3; yformer/EfficientSAM, efficient_sam_encoder.py).
Its blocks are Hiera's without windows and pooling, and its neck is SAM's. Position embeddings of 14 x 14 cells, from
pre-training at 224 pixels, are resized to the map. Names of parameters are those of the official checkpoints, but for
the MLPs, which have Hiera's (`weights.layouts`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.conventions import FeatureMap

from .hiera import HieraBlock
from .image_encoder import PatchEmbed, make_neck

DEPTH = 12
PRETRAINED_GRID = 14  # cells along a side of the position embeddings


@dataclass(frozen=True)
class EfficientSAMConfig:
    """Channels and attention heads of every block."""

    dim: int
    heads: int


# `build_efficient_sam.py` of the official code.
EFFICIENT_SAM_TI = EfficientSAMConfig(192, 3)
EFFICIENT_SAM_S = EfficientSAMConfig(384, 6)


class EfficientSAMEncoder(nn.Module):
    """Normalized photo `(B, 3, H, W)` to embedding `(B, out_channels, H/16, W/16)`.

    Attributes:
        any_side: true: positions are resized to every map.
        further_outputs: empty: it returns the embedding alone.
    """

    any_side = True
    further_outputs: tuple[FeatureMap, ...] = ()

    def __init__(self, config: EfficientSAMConfig, out_channels: int = 256) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dim)
        # The first entry belongs to the class token of pre-training, and is not used.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PRETRAINED_GRID**2, config.dim))
        self.blocks = nn.ModuleList(
            HieraBlock(config.dim, config.dim, config.heads, window=0, pool=False) for _ in range(DEPTH)
        )
        self.neck = make_neck(config.dim, out_channels)

    @property
    def coarse_positions(self) -> Tensor:
        """The position embeddings of 14 x 14 cells, `(1, C, 14, 14)`."""
        cells = self.pos_embed[:, 1:].transpose(1, 2)
        return cells.reshape(1, -1, PRETRAINED_GRID, PRETRAINED_GRID)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of a map of cells; exports replace the resize (`lean.positions`)."""
        resized = F.interpolate(self.coarse_positions, size=(h, w), mode="bicubic", align_corners=False)
        return resized.permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode photos whose sides are multiples of 16."""
        x = self.patch_embed(x)
        x = x + self.positions(x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out

    def set_input_side(self, side: int) -> None:
        """Do nothing: no parameter depends on the frame's side."""
