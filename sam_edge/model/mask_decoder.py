"""SAM's mask decoder: four mask tokens and one IoU token attend to the image, and each mask token becomes a filter.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Lightweight mask decoder"). It always returns
all four masks: token 0 for an unambiguous prompt, 1..3 for whole, part and subpart. The caller chooses which to show,
so the traced graph has no branch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS

from .layers import LayerNorm2d
from .transformer import EMPTY_SLOT_BIAS, TwoWayTransformer


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int, out: int, depth: int = 3) -> None:
        super().__init__()
        widths = [dim, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., out)`."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        out: Tensor = self.layers[-1](x)
        return out


def upscaling(dim: int, hidden: int, out: int) -> list[nn.Module]:
    """Layers that map `(B, dim, h, w)` to `(B, out, 4h, 4w)`."""
    return [
        nn.ConvTranspose2d(dim, hidden, kernel_size=2, stride=2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, out, kernel_size=2, stride=2),
    ]


class MaskDecoder(nn.Module):
    """Image embedding and prompt tokens to mask logits and IoU predictions.

    Attributes:
        per_photo: names of submodules that depend on the photo alone, and are computed in the encoder's graph.
        pads_boxes: whether a prompt with a box ends with a padding point, as one without does. The decoder's graph adds
            it, so that callers need not know.
    """

    per_photo: tuple[str, ...] = ()
    pads_boxes = False

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(channels)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(MASK_OUTPUTS, channels)
        self.output_upscaling = nn.Sequential(*upscaling(channels, channels // 4, channels // 8), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(channels, channels, channels // 8) for _ in range(MASK_OUTPUTS)
        )
        self.iou_prediction_head = MLP(channels, 256, MASK_OUTPUTS)

    def forward(
        self, embeddings: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one photo; the embedding has h x w cells, H/16 x W/16.

        Args:
            embeddings: `(1, C, h, w)` from the image encoder.
            positions: `(1, C, h, w)` from `PromptEncoder.dense_positions`.
            sparse: `(B, N, C)` prompt tokens.
            dense: `(B, C, h, w)` mask prompt.
            empty: `(B, N)` 1 where a slot is empty, else 0.

        Returns:
            Mask logits `(B, 4, 4h, 4w)` and IoU predictions `(B, 4)`.
        """
        tokens, image = self.attend(embeddings, positions, sparse, dense, empty)
        masks = self.apply_filters(image, self.filters(tokens), (embeddings.shape[2], embeddings.shape[3]))
        return masks, self.iou_prediction_head(tokens[:, 0])

    def output_tokens(self) -> Tensor:
        """The learned tokens in front of the prompt's, `(5, C)`: of the IoU predictions, then of each mask."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def attend(
        self, embeddings: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let T output tokens, the prompt and the image attend to each other; see `forward`.

        Returns:
            Tokens `(B, T + N, C)` and the image's cells `(B, h * w, C)`.
        """
        outputs = self.output_tokens()
        tokens = torch.cat([outputs.unsqueeze(0).expand(dense.shape[0], -1, -1), sparse], dim=1)
        # A slot's bias, with zeros in front for the output tokens: (B, 1, 1, T + N).
        key_bias = nn.functional.pad(empty * EMPTY_SLOT_BIAS, (len(outputs), 0))[:, None, None, :]
        image = (embeddings + dense).flatten(2).transpose(1, 2)  # (B, HW, C)
        image_pe = positions.flatten(2).transpose(1, 2)  # (1, HW, C)
        attended: tuple[Tensor, Tensor] = self.transformer(image, image_pe, tokens, key_bias)
        return attended

    def filters(self, tokens: Tensor) -> Tensor:
        """A filter for each mask, `(B, 4, C/8)`, of the tokens that `attend` returns."""
        return torch.stack(
            [mlp(tokens[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )

    def apply_filters(self, image: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
        """Upscale the image by four and multiply each pixel's features with each mask's filter.

        Args:
            image: `(B, h * w, C)` cells, row by row.
            filters: `(B, 4, C/8)`, one a mask.
            grid: (h, w).

        Returns:
            Mask logits `(B, 4, 4h, 4w)`.
        """
        b, (h, w) = image.shape[0], grid
        features = self.upscale(image, grid)
        return (filters @ features.flatten(2)).reshape(b, MASK_OUTPUTS, 4 * h, 4 * w)

    def upscale(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features `(B, C/8, 4h, 4w)` of the image's cells `(B, h * w, C)`; `grid` is (h, w)."""
        b, (h, w) = image.shape[0], grid
        features: Tensor = self.output_upscaling(image.transpose(1, 2).reshape(b, -1, h, w))
        return features
