"""Bicubic resizes as two small products: of the positions of Hiera and EfficientSAM, of EfficientViT-SAM's features.

A bicubic resize is linear along each axis, so it is `rows @ coarse @ columns.T` with matrices that depend on the sizes
alone. coremltools converts no bicubic resize. Stored whole, the positions of 256 x 256 cells would take 25 MB in the
smallest Hiera; the coarse ones and the matrices take 60 kB.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.efficient_sam_encoder import EfficientSAMEncoder
from sam_edge.model.efficientvit import Upsample
from sam_edge.model.graphs import EncoderGraph
from sam_edge.model.hiera import STRIDE, Hiera
from sam_edge.model.replacement import replace_modules
from sam_edge_runtime.bundle.contract import FrameSize


def with_positions_for(graph: EncoderGraph, frame: FrameSize) -> EncoderGraph:
    """A copy of an encoder graph whose bicubic resizes, if it has any, are those of one frame; parameters are shared.

    Its outputs are equal up to rounding.
    """
    return replace_modules(
        graph,
        {
            Hiera: lambda plain: HieraOfFrame(plain, frame),
            EfficientSAMEncoder: lambda plain: EfficientSAMEncoderOfFrame(plain, frame),
            Upsample: lambda plain: UpsampleOfFrame(plain, frame),
        },
    )


class BicubicResize(nn.Module):
    """Maps of one size to another, as two products."""

    rows: Tensor
    columns: Tensor

    def __init__(self, inputs: tuple[int, int], outputs: tuple[int, int]) -> None:
        """The resize of maps of `inputs` to `outputs`, each (height, width)."""
        super().__init__()
        for name, before, after in zip(("rows", "columns"), inputs, outputs, strict=True):
            self.register_buffer(name, bicubic_matrix(before, after), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., H, W)` to `(..., H', W')`."""
        return self.rows @ x @ self.columns.T


class HieraOfFrame(Hiera):
    """`Hiera` for photos of one size."""

    def __init__(self, plain: Hiera, frame: FrameSize) -> None:
        nn.Module.__init__(self)
        self.widths, self.ends = plain.widths, plain.ends
        self.patch_embed, self.blocks = plain.patch_embed, plain.blocks
        self.pos_embed, self.pos_embed_window = plain.pos_embed, plain.pos_embed_window
        self.resize = BicubicResize(_size(plain.pos_embed), (frame.height // STRIDE, frame.width // STRIDE))

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of the frame's cells; h and w are its own."""
        resized: Tensor = self.resize(self.pos_embed[0])  # (C, h, w)
        return (resized + self.of_windows(h, w)).permute(0, 2, 3, 1)


class EfficientSAMEncoderOfFrame(EfficientSAMEncoder):
    """`EfficientSAMEncoder` for photos of one size."""

    def __init__(self, plain: EfficientSAMEncoder, frame: FrameSize) -> None:
        nn.Module.__init__(self)
        self.patch_embed, self.blocks, self.neck = plain.patch_embed, plain.blocks, plain.neck
        self.pos_embed = plain.pos_embed
        self.resize = BicubicResize(_size(plain.coarse_positions), frame.grid)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of the frame's cells; h and w are its own."""
        resized: Tensor = self.resize(self.coarse_positions[0])  # (C, h, w)
        return resized.permute(1, 2, 0).unsqueeze(0)


class UpsampleOfFrame(Upsample):
    """`Upsample` in an encoder for photos of one size, as two products."""

    def __init__(self, plain: Upsample, frame: FrameSize) -> None:
        super().__init__(plain.factor)
        h, w = frame.grid
        self.resize = BicubicResize((h // plain.factor, w // plain.factor), (h, w)) if plain.factor > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H*factor, W*factor)`, those of the frame's embedding."""
        return x if self.resize is None else self.resize(x)


def bicubic_matrix(inputs: int, outputs: int) -> Tensor:
    """The matrix (outputs, inputs) of torch's bicubic resize along one axis, without aligned corners."""
    identity = torch.eye(inputs)[None, None]
    return F.interpolate(identity, size=(outputs, inputs), mode="bicubic", align_corners=False)[0, 0]


def _size(maps: Tensor) -> tuple[int, int]:
    """Height and width of `(..., H, W)`."""
    return maps.shape[-2], maps.shape[-1]
