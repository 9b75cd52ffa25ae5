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
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize


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


class HieraOfFrame(Hiera):
    """`Hiera` for photos of one size."""

    rows: Tensor
    columns: Tensor

    def __init__(self, plain: Hiera, frame: FrameSize) -> None:
        nn.Module.__init__(self)
        self.widths, self.ends = plain.widths, plain.ends
        self.patch_embed, self.blocks = plain.patch_embed, plain.blocks
        self.pos_embed, self.pos_embed_window = plain.pos_embed, plain.pos_embed_window
        for name, side, coarse in zip(("rows", "columns"), frame, plain.pos_embed.shape[2:], strict=True):
            self.register_buffer(name, bicubic_matrix(coarse, side // STRIDE), persistent=False)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of the frame's cells; h and w are its own."""
        coarse = self.rows @ self.pos_embed[0] @ self.columns.T  # (C, h, w)
        return (coarse + self.of_windows(h, w)).permute(0, 2, 3, 1)


class EfficientSAMEncoderOfFrame(EfficientSAMEncoder):
    """`EfficientSAMEncoder` for photos of one size."""

    rows: Tensor
    columns: Tensor

    def __init__(self, plain: EfficientSAMEncoder, frame: FrameSize) -> None:
        nn.Module.__init__(self)
        self.patch_embed, self.blocks, self.neck = plain.patch_embed, plain.blocks, plain.neck
        self.pos_embed = plain.pos_embed
        for name, side, coarse in zip(("rows", "columns"), frame, plain.coarse_positions.shape[2:], strict=True):
            self.register_buffer(name, bicubic_matrix(coarse, side // EMBEDDING_STRIDE), persistent=False)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of the frame's cells; h and w are its own."""
        resized = self.rows @ self.coarse_positions[0] @ self.columns.T  # (C, h, w)
        return resized.permute(1, 2, 0).unsqueeze(0)


class UpsampleOfFrame(Upsample):
    """`Upsample` in an encoder for photos of one size, as two products."""

    rows: Tensor
    columns: Tensor

    def __init__(self, plain: Upsample, frame: FrameSize) -> None:
        super().__init__(plain.factor)
        for name, cells in zip(("rows", "columns"), frame.grid, strict=True):
            self.register_buffer(name, bicubic_matrix(cells // plain.factor, cells), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H*factor, W*factor)`, those of the frame's embedding."""
        return x if self.factor == 1 else self.rows @ x @ self.columns.T


def bicubic_matrix(inputs: int, outputs: int) -> Tensor:
    """The matrix (outputs, inputs) of torch's bicubic resize along one axis, without aligned corners."""
    identity = torch.eye(inputs)[None, None]
    return F.interpolate(identity, size=(outputs, inputs), mode="bicubic", align_corners=False)[0, 0]
