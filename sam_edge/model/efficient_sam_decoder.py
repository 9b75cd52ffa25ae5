"""EfficientSAM's prompt encoder and mask decoder: SAM's, for points inside the object and boxes, in six slots.

Source: "EfficientSAM" (https://arxiv.org/abs/2312.00863; yformer/EfficientSAM, efficient_sam_decoder.py and
build_efficient_sam.py). What differs from SAM:

- A prompt always has six slots. Those not in use are points at (-1, -1) with an embedding of their own. The model was
  trained to see them, so that attention does not hide them.
- There are no points outside the object (a label of 0 would add no embedding), and no mask prompts.
- The first block of the transformer keeps its input beside the self-attention; the second adds the positions to the
  tokens for good, not for the attention alone.
- GELU instead of ReLU, and a normalization over a whole map in the upscaling.

Names of parameters are those of SAM where the modules are; `weights.layouts` has the official ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, Label
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM

from .image_encoder import NATIVE_SIDE
from .layers import is_label
from .mask_decoder import MLP, MaskDecoder
from .prompt_encoder import FourierFeatures, PromptEncoder
from .transformer import TwoWayBlock, TwoWayTransformer

SLOTS = EFFICIENT_SAM.slots or 0
NOWHERE = -1.0  # both coordinates of a slot that is not in use


class EfficientSAMPromptEncoder(PromptEncoder):
    """Prompts of up to six slots to tokens `(B, 6, C)`."""

    def __init__(self, channels: int = 256) -> None:
        nn.Module.__init__(self)
        self.side = NATIVE_SIDE
        self.pe_layer = FourierFeatures(channels)
        self.invalid_points = nn.Embedding(1, channels)
        self.point_embeddings = nn.Embedding(1, channels)  # type: ignore[assignment]  # SAM has one for each label
        self.bbox_top_left_embeddings = nn.Embedding(1, channels)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, channels)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Tokens of prompt slots; fewer than six are filled up.

        Args:
            coords: `(B, N, 2)` x, y in pixels of the frame; pixel centres lie at +0.5, which is added here.
            labels: `(B, N)` values of `Label`; those below 0 are not in use.

        Returns:
            `(B, 6, C)`.
        """
        if missing := max(0, SLOTS - labels.shape[1]):
            coords = F.pad(coords, (0, 0, 0, missing))
            labels = F.pad(labels, (0, missing), value=float(Label.PADDING))
        used = 1.0 - (1.0 - (labels + 1.0).relu()).relu()  # 0 for labels -2 and -1, 1 for the others
        places = coords * used.unsqueeze(-1) + (1.0 - used.unsqueeze(-1)) * NOWHERE
        position = self.pe_layer((places + 0.5) / self.side)
        labels = labels * used + (1.0 - used) * float(Label.PADDING)
        known = torch.tensor(
            [float(each) for each in (Label.PADDING, Label.FOREGROUND, Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT)],
            device=labels.device,
            dtype=labels.dtype,
        )
        one_hot = is_label(labels.unsqueeze(-1), known)  # (B, 6, 4)
        vectors = torch.cat(
            [
                self.invalid_points.weight,
                self.point_embeddings.get_parameter("weight"),
                self.bbox_top_left_embeddings.weight,
                self.bbox_bottom_right_embeddings.weight,
            ]
        )
        out: Tensor = position + one_hot @ vectors
        return out

    def forward(  # type: ignore[override]  # there is no dense map without mask prompts
        self, coords: Tensor, labels: Tensor, mask_input: Tensor | None = None, has_mask_input: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """The tokens, as `embed_points` returns them; mask prompts are ignored."""
        return self.embed_points(coords, labels), None


class GELUMLP(MLP):
    """`MLP` with GELU instead of ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., out)`."""
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class MapNorm(nn.Module):
    """Normalization over all channels and cells of a map, as `nn.GroupNorm` with one group.

    Means are taken along one axis after another: float16 holds sums of a row, and not those of a map.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each of `(B, C, H, W)`; returns the same shape."""
        centred = x - _mean(x)
        normed = centred * torch.rsqrt(_mean(centred * centred) + self.eps)
        return normed * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


def _mean(x: Tensor) -> Tensor:
    """The mean `(B, 1, 1, 1)` of each map."""
    return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)


class EfficientSAMBlock(TwoWayBlock):
    """`TwoWayBlock` with a residual around its self-attention in every block, and GELU."""

    activation = nn.GELU

    def attend_to_itself(self, tokens: Tensor, token_pe: Tensor, key_bias: Tensor | None) -> Tensor:
        """Self-attention of `tokens (B, T, C)`, with its residual."""
        if not self.first:
            tokens = tokens + token_pe
        out: Tensor = tokens + self.self_attn(tokens, tokens, tokens, key_bias)
        return out


class EfficientSAMTransformer(TwoWayTransformer):
    """`TwoWayTransformer` of EfficientSAM's blocks."""

    block = EfficientSAMBlock


class EfficientSAMMaskDecoder(MaskDecoder):
    """Image embedding and prompt tokens to mask logits and IoU predictions."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__(channels)
        self.transformer = EfficientSAMTransformer(channels)
        self.output_upscaling[1] = MapNorm(channels // 4)
        self.output_hypernetworks_mlps = nn.ModuleList(
            GELUMLP(channels, channels, channels // 8) for _ in range(MASK_OUTPUTS)
        )
        self.iou_prediction_head = GELUMLP(channels, 256, MASK_OUTPUTS)

    def attend(
        self, embeddings: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor | None, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `MaskDecoder.attend`; `dense` is None, and `empty` is ignored: a slot that is not in use counts."""
        outputs = self.output_tokens().unsqueeze(0).expand(sparse.shape[0], -1, -1)
        image = embeddings.flatten(2).transpose(1, 2).expand(sparse.shape[0], -1, -1)  # (B, HW, C)
        tokens = torch.cat([outputs, sparse], dim=1)
        attended: tuple[Tensor, Tensor] = self.transformer(image, positions.flatten(2).transpose(1, 2), tokens, None)
        return attended
