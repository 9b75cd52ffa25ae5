"""SAM's prompt encoder: points, boxes and masks become tokens and a dense map.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Prompt encoder"). A point becomes its Fourier
features (https://arxiv.org/abs/2006.10739) plus a learned embedding of its label; a box is two such points. A product
with a one-hot matrix selects the label's embedding. So the traced graph has neither branches nor scatters, and one
graph serves every label of the contract.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, FrameSize, Label

from .image_encoder import NATIVE_SIDE
from .layers import LayerNorm2d, is_label

MASK_CHANNELS = 16
# The labels that have an embedding: -1, 0, 1, 2, 3.
EMBEDDED_LABELS = (Label.PADDING, Label.BACKGROUND, Label.FOREGROUND, Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT)


class FourierFeatures(nn.Module):
    """Position embeddings by random spatial frequencies, which are fixed before training and part of the checkpoint."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Map positions `(..., 2)` in 0..1 of the frame to features `(..., channels)`."""
        phase = (2.0 * xy - 1.0) @ self.positional_encoding_gaussian_matrix * (2.0 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class SeparablePositions(nn.Module):
    """Computes `PromptEncoder.dense_positions` from lookup tables of rows and columns.

    The angle of a cell is a sum of one for its column and one for its row, so sine and cosine follow from the angle
    addition formulas. Tables of `(C/2, H/16)` and `(C/2, W/16)` replace a map of `(C, H/16, W/16)`: a file of SAM's
    decoder is 4 MB smaller.
    """

    sin_x: Tensor
    cos_x: Tensor
    sin_y: Tensor
    cos_y: Tensor

    def __init__(self, encoder: PromptEncoder, grid: tuple[int, int]) -> None:
        """Tables of a grid of (H/16, W/16) cells."""
        super().__init__()
        rows, columns = (_cell_centres(cells, encoder.side) * 2.0 - 1.0 for cells in grid)
        frequencies = encoder.pe_layer.positional_encoding_gaussian_matrix.double() * (2.0 * math.pi)
        of_x, of_y = (each[None, :, None] for each in frequencies)  # (1, C/2, 1)
        x, y = (of_x * columns).unsqueeze(-2), (of_y * rows).unsqueeze(-1)  # (1, C/2, 1, W/16), (1, C/2, H/16, 1)
        for name, table in (("sin_x", x.sin()), ("cos_x", x.cos()), ("sin_y", y.sin()), ("cos_y", y.cos())):
            self.register_buffer(name, table.float(), persistent=False)

    def forward(self) -> Tensor:
        """Position embeddings of all cells, `(1, C, H/16, W/16)`."""
        sine = self.sin_x * self.cos_y + self.cos_x * self.sin_y
        cosine = self.cos_x * self.cos_y - self.sin_x * self.sin_y
        return torch.cat([sine, cosine], dim=1)


class PromptEncoder(nn.Module):
    """Prompts to sparse tokens `(B, N, C)` and a dense map `(B, C, H/16, W/16)`."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.side = NATIVE_SIDE
        self.pe_layer = FourierFeatures(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in EMBEDDED_LABELS[1:])
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, channels, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, channels)

    def set_input_side(self, side: int) -> None:
        """From now on, coordinates are those of frames whose longer side is `side` pixels."""
        self.side = side

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Tokens of prompt slots.

        Args:
            coords: `(B, N, 2)` x, y in pixels of the frame; pixel centres lie at +0.5, which is added here.
            labels: `(B, N)` values of `Label`.

        Returns:
            `(B, N, C)`; zero for empty slots.
        """
        position = self.pe_layer((coords + 0.5) / self.side)
        has_position = 1.0 - (1.0 - (labels + 1.0).relu()).relu()  # 0 for labels -2 and -1, 1 for the others
        known = torch.tensor([float(label) for label in EMBEDDED_LABELS], device=labels.device, dtype=labels.dtype)
        one_hot = is_label(labels.unsqueeze(-1), known)  # (B, N, 5)
        of_points = [embedding.get_parameter("weight") for embedding in self.point_embeddings]
        vectors = torch.cat([self.not_a_point_embed.weight, *of_points])  # (5, C)
        out: Tensor = position * has_position.unsqueeze(-1) + one_hot @ vectors
        return out

    def embed_masks(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """Dense map `(B, C, H/16, W/16)` of the mask prompts; a learned vector in every cell where there is none.

        Args:
            mask_input: `(B, 1, H/4, W/4)` logits.
            has_mask_input: `(B)` 1 where `mask_input` counts, else 0.
        """
        has = has_mask_input.reshape(-1, 1, 1, 1)
        without = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        out: Tensor = has * self.mask_downscaling(mask_input) + (1.0 - has) * without
        return out

    def forward(
        self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sparse tokens and the dense map: `embed_points` and `embed_masks`."""
        return self.embed_points(coords, labels), self.embed_masks(mask_input, has_mask_input)

    def dense_positions(self, grid: tuple[int, int] | None = None) -> Tensor:
        """Fourier features of every embedding cell's centre, `(1, C, H/16, W/16)`.

        Args:
            grid: cells (H/16, W/16) of a frame; None: of the square.
        """
        device = self.pe_layer.positional_encoding_gaussian_matrix.device
        rows, columns = grid or FrameSize.square(self.side).grid
        y, x = torch.meshgrid(
            _cell_centres(rows, self.side).to(device), _cell_centres(columns, self.side).to(device), indexing="ij"
        )
        features: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return features.permute(2, 0, 1).unsqueeze(0)


def _cell_centres(cells: int, side: int) -> Tensor:
    """Centres of `cells` of the embedding along one side of a frame, as fractions of the longer side `side`."""
    return (torch.arange(cells) + 0.5) / (side // EMBEDDING_STRIDE)
