"""RepViT-SAM's image encoder: RepViT-M2.3 at a stride of 16, and SAM's neck.

Source: RepViT-SAM (https://arxiv.org/abs/2312.05760) and RepViT (https://arxiv.org/abs/2307.09283, section 3;
THU-MIG/RepViT, sam/repvit_sam/modeling/repvit.py). The blocks are those of `repvit`. What differs: each branched
convolution is normalized behind the sum of its branches, no block precedes the layers between two stages, and the last
stage keeps its input's resolution. Names of parameters are those of `repvit`; `weights.layouts` has the official ones.
"""

from __future__ import annotations

from torch import Tensor, nn

from sam_edge_runtime.bundle.conventions import FeatureMap

from .image_encoder import make_neck
from .repvit import Downsample, RepViTBlock, Stem, squeezes

WIDTHS = (80, 160, 320, 640)
DEPTHS = (7, 7, 35, 2)
STRIDES = (1, 2, 2, 1)  # between a stage and the one before


class RepViTImageEncoder(nn.Module):
    """Normalized photo `(B, 3, H, W)` to embedding `(B, out_channels, H/16, W/16)`.

    Attributes:
        any_side: true: nothing depends on the frame's side.
        further_outputs: empty: it returns the embedding alone.
    """

    any_side = True
    further_outputs: tuple[FeatureMap, ...] = ()

    def __init__(self, out_channels: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = [Stem(WIDTHS[0])]
        for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            if stage:
                layers.append(Downsample(WIDTHS[stage - 1], width, STRIDES[stage], pre_block=False))
            layers += [RepViTBlock(width, squeeze=squeezes(place, depth), norm_behind=True) for place in range(depth)]
        self.features = nn.ModuleList(layers)
        self.neck = make_neck(WIDTHS[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Encode photos whose sides are multiples of 16."""
        for layer in self.features:
            x = layer(x)
        out: Tensor = self.neck(x)
        return out

    def set_input_side(self, side: int) -> None:
        """Do nothing: no part of this encoder depends on the frame's side."""
