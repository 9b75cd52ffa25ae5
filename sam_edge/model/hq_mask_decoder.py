"""SAM-HQ's mask decoder: one more token, whose filter is applied to finer features of the image.

Source: "Segment Anything in High Quality" (https://arxiv.org/abs/2306.01567, section 3.2). The finer features are a sum
of three: the decoder's own after two convolutions, the image embedding, and early features of the encoder, in which
outlines are still sharp. The HQ mask is added to SAM's masks, or replaces them. The token has no IoU prediction of its
own: each IoU is that of SAM's mask. Names and shapes of parameters are those of the official checkpoints.

The image embedding's and the early features' part depends on the photo alone: `projection` computes it once, in the
encoder's graph.

The official predictor returns one mask: for `multimask_output=True` the one of SAM's tokens 1..3 with the highest IoU
prediction, plus the HQ mask. Here all four sums are returned, and the caller chooses, as for SAM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS

from .layers import LayerNorm2d
from .mask_decoder import MLP, MaskDecoder, upscaling

HQ_TOKEN = MASK_OUTPUTS + 1  # its index: behind the IoU token and those of the masks


class HQMaskDecoder(MaskDecoder):
    """Image embedding, HQ features and prompt tokens to mask logits and IoU predictions.

    Attributes:
        hq_token_only: return the HQ mask alone, four times, instead of its sum with each of SAM's masks.
        per_photo: submodules that only `projection` uses.
    """

    per_photo = ("compress_vit_feat", "embedding_encoder")

    def __init__(self, channels: int, early_channels: int, *, hq_token_only: bool = False) -> None:
        """An untrained decoder.

        Args:
            channels: of the image embedding.
            early_channels: of the early features.
            hq_token_only: see the class; it changes no parameter and may be set later.
        """
        super().__init__(channels)
        features = channels // 8
        self.hq_token_only = hq_token_only
        self.hf_token = nn.Embedding(1, channels)
        self.hf_mlp = MLP(channels, channels, features)
        self.compress_vit_feat = nn.Sequential(*upscaling(early_channels, channels, features))
        self.embedding_encoder = nn.Sequential(*upscaling(channels, channels // 4, features))
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(features, channels // 4, kernel_size=3, padding=1),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.Conv2d(channels // 4, features, kernel_size=3, padding=1),
        )

    def forward(  # type: ignore[override]  # the features follow the embedding that they belong to
        self, embeddings: Tensor, hq_features: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts; `hq_features (1, C/8, 4h, 4w)` are of `projection`, the others as in `MaskDecoder`.

        Returns:
            Mask logits `(B, 4, 4h, 4w)` and IoU predictions `(B, 4)`.
        """
        b, _, h, w = dense.shape
        tokens, image = self.attend(embeddings, positions, sparse, dense, empty)
        features = self.upscale(image, (h, w))
        fine = self.embedding_maskfeature(features) + hq_features
        hq = self.hf_mlp(tokens[:, HQ_TOKEN]).unsqueeze(1) @ fine.flatten(2)  # (B, 1, 16hw)
        if self.hq_token_only:
            masks = torch.cat([hq] * MASK_OUTPUTS, dim=1)  # phones' delegates have no broadcast to a shape
        else:
            masks = self.filters(tokens) @ features.flatten(2) + hq
        return masks.reshape(b, MASK_OUTPUTS, 4 * h, 4 * w), self.iou_prediction_head(tokens[:, 0])

    def output_tokens(self) -> Tensor:
        """The learned tokens in front of the prompt's, `(6, C)`; the last is the HQ token."""
        return torch.cat([super().output_tokens(), self.hf_token.weight])

    def projection(self) -> HQProjection:
        """What makes the HQ features of the image encoder's outputs; it shares this decoder's parameters."""
        return HQProjection(self.embedding_encoder, self.compress_vit_feat)


class HQProjection(nn.Module):
    """Image embedding and early features to the embedding and the HQ features."""

    def __init__(self, embedding_encoder: nn.Module, compress_vit_feat: nn.Module) -> None:
        super().__init__()
        self.embedding_encoder = embedding_encoder
        self.compress_vit_feat = compress_vit_feat

    def forward(self, embeddings: Tensor, early: Tensor) -> tuple[Tensor, Tensor]:
        """`(1, C, h, w)` and `(1, E, h, w)` to the first and `(1, C/8, 4h, 4w)`."""
        return embeddings, self.embedding_encoder(embeddings) + self.compress_vit_feat(early)
