"""SAM 2's mask decoder: SAM's, with finer features in its upscaling and a token that predicts the object's presence.

Source: "SAM 2" (https://arxiv.org/abs/2408.00714, section 4 and appendix D.1). Two maps of the image encoder, at
strides 4 and 8, are added while the image is upscaled. A further token predicts whether the object is in the image. IoU
predictions pass through a sigmoid. Names and shapes of parameters are those of the official checkpoints, below
`sam_mask_decoder`, but for `no_memory.embed`, which is `no_mem_embed` beside it, and the names of the transformer's
MLPs, which are SAM's.

What depends on the photo alone runs once, in the image encoder's graph: `projection` reduces the two maps to 32 and 64
channels and adds `no_mem_embed` to the embedding. At 1024 pixels a click then reads 17 MB of maps instead of 88 MB.

Official predictors choose among the masks by stability and IoU. Here all four are returned, and the caller chooses, as
for SAM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS

from .mask_decoder import MLP, MaskDecoder


class NoMemory(nn.Module):
    """Adds the embedding that SAM 2 learned for images without memory of earlier frames: a photo has none."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map `(B, C, h, w)` to the same shape."""
        return embeddings + self.embed.reshape(1, -1, 1, 1)


class SAM2Projection(nn.Module):
    """Makes the decoder's inputs of the image encoder's outputs, once per photo; it shares the decoder's submodules."""

    def __init__(self, decoder: SAM2MaskDecoder) -> None:
        super().__init__()
        self.no_memory, self.conv_s0, self.conv_s1 = decoder.no_memory, decoder.conv_s0, decoder.conv_s1

    def forward(self, embeddings: Tensor, at_4: Tensor, at_8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map the outputs of `PyramidImageEncoder` to the maps that the decoder takes.

        Returns:
            The embedding `(B, C, H/16, W/16)`, and the high-resolution features `(B, C/8, H/4, W/4)` and
            `(B, C/4, H/8, W/8)`.
        """
        return self.no_memory(embeddings), self.conv_s0(at_4), self.conv_s1(at_8)


class SAM2MaskDecoder(MaskDecoder):
    """Image embedding, high-resolution features and prompt tokens to mask logits, IoU predictions and object scores.

    Attributes:
        per_photo: names of the submodules that only `projection` uses.
        pads_boxes: SAM 2's predictor ends prompts with a padding point even where they have a box.
    """

    per_photo = ("no_memory", "conv_s0", "conv_s1")
    pads_boxes = True

    def __init__(self, channels: int = 256) -> None:
        super().__init__(channels)
        self.obj_score_token = nn.Embedding(1, channels)
        self.pred_obj_score_head = MLP(channels, channels, 1)
        self.no_memory = NoMemory(channels)
        self.conv_s0 = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(channels, channels // 4, kernel_size=1)

    def projection(self) -> SAM2Projection:
        """The part that runs once per photo, in the image encoder's graph."""
        return SAM2Projection(self)

    def forward(  # type: ignore[override]  # the features follow the embedding that they belong to
        self,
        embeddings: Tensor,
        high_res_0: Tensor,
        high_res_1: Tensor,
        positions: Tensor,
        sparse: Tensor,
        dense: Tensor,
        empty: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode B prompts on one photo.

        Args:
            embeddings: `(1, C, h, w)` from the projection, as the next two.
            high_res_0: `(1, C/8, 4h, 4w)`.
            high_res_1: `(1, C/4, 2h, 2w)`.
            positions: as in `MaskDecoder`, like the others.
            sparse: `(B, N, C)` prompt tokens.
            dense: `(B, C, h, w)` mask prompt.
            empty: `(B, N)` 1 where a slot is empty, else 0.

        Returns:
            Mask logits `(B, 4, 4h, 4w)`, IoU predictions `(B, 4)` in 0..1, and object scores `(B, 1)`: logits, above 0
            where the object is in the image.
        """
        tokens, image = self.attend(embeddings, positions, sparse, dense, empty)
        object_score, tokens = self.pred_obj_score_head(tokens[:, 0]), tokens[:, 1:]
        masks = self.apply_filters_onto(image, self.filters(tokens), high_res_0, high_res_1)
        return masks, self.iou_prediction_head(tokens[:, 0]).sigmoid(), object_score

    def output_tokens(self) -> Tensor:
        """The learned tokens in front of the prompt's, `(6, C)`: of the object score, then those of SAM."""
        return torch.cat([self.obj_score_token.weight, super().output_tokens()])

    def apply_filters_onto(self, image: Tensor, filters: Tensor, high_res_0: Tensor, high_res_1: Tensor) -> Tensor:
        """`apply_filters` that adds the features of each resolution while it upscales.

        Args:
            image: `(B, h * w, C)` cells, row by row.
            filters: `(B, 4, C/8)`, one a mask.
            high_res_0: `(1, C/8, 4h, 4w)`.
            high_res_1: `(1, C/4, 2h, 2w)`.

        Returns:
            Mask logits `(B, 4, 4h, 4w)`.
        """
        b, h, w = image.shape[0], high_res_1.shape[2] // 2, high_res_1.shape[3] // 2
        first, norm, first_gelu, second, second_gelu = self.output_upscaling
        half = first_gelu(norm(first(image.transpose(1, 2).reshape(b, -1, h, w)) + high_res_1))
        features: Tensor = second_gelu(second(half) + high_res_0)
        return (filters @ features.flatten(2)).reshape(b, MASK_OUTPUTS, 4 * h, 4 * w)
