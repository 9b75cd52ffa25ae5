"""SAM 2's image encoder: a trunk with outputs at four strides, and a feature pyramid that brings them to one width.

Source: "SAM 2" (https://arxiv.org/abs/2408.00714, section 4 and appendix D.1) and feature pyramid networks
(https://arxiv.org/abs/1612.03144). The pyramid adds stride 32 to stride 16, which is the image embedding. Strides 4 and
8 go to the upscaling of the mask decoder alone, and sharpen the masks. Parameter names and shapes are those of the
official checkpoints, below `image_encoder`.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.conventions import FeatureMap

PYRAMID_CHANNELS = 256


class Trunk(Protocol):
    """A backbone for the pyramid.

    Attributes:
        widths: channels of its outputs, at strides 4, 8, 16 and 32.
    """

    widths: tuple[int, ...]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalized photo `(B, 3, H, W)` to four maps `(B, widths[i], H/s, W/s)`."""
        ...


class Lateral(nn.Module):
    """A 1 x 1 convolution of one level."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H, W)`."""
        out: Tensor = self.conv(x)
        return out


class FeaturePyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 to maps of one width at strides 4, 8 and 16."""

    def __init__(self, widths: tuple[int, ...], channels: int = PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(width, channels) for width in reversed(widths))  # the coarsest first

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Map `(B, widths[i], H/s, W/s)` at four strides to `(B, channels, H/s, W/s)` at strides 4, 8 and 16."""
        at_32, at_16, at_8, at_4 = (conv(each) for conv, each in zip(self.convs, reversed(maps), strict=True))
        return at_4, at_8, at_16 + F.interpolate(at_32, scale_factor=2.0, mode="nearest")


class PyramidImageEncoder(nn.Module):
    """Normalized photo `(B, 3, H, W)` to the image embedding `(B, 256, H/16, W/16)`, and to finer features.

    The embedding lacks SAM 2's `no_mem_embed`, which the mask decoder's projection adds. The same projection makes the
    high-resolution features of the finer ones.

    Attributes:
        any_side: true: positions are resized to every map.
        further_outputs: the finer features.
    """

    any_side = True
    further_outputs = (
        FeatureMap("pyramid_features_0", PYRAMID_CHANNELS, 4),
        FeatureMap("pyramid_features_1", PYRAMID_CHANNELS, 8),
    )

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = FeaturePyramid(trunk.widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode `x`, whose sides are multiples of 32.

        Returns:
            Features at strides 16, 4 and 8: the embedding first.
        """
        at_4, at_8, at_16 = self.neck(self.trunk(x))
        return at_16, at_4, at_8

    def set_input_side(self, side: int) -> None:
        """Do nothing: no parameter depends on the frame's side."""
