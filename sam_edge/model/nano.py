"""`nano` and `small`: SAM's contract in 3 and 4 million parameters, made of what phones run fast and quantize well.

The image encoder is MobileNetV2 1.0 (https://arxiv.org/abs/1801.04381, table 2) as TensorFlow publishes it, with batch
norms folded into the convolutions, so training can start from its ImageNet weights. The embedding has two halves:

- 128 semantic channels: two convolutions mix the features of stride 16 and stride 32.
- 128 detail channels: strided convolutions pack the features of stride 4 and 8, which show what is inside each 16 x 16
  cell. The decoder unpacks them, so outlines are sharp although the contract has a single embedding of stride 16.

`small` is nano with further blocks in the encoder (`NanoConfig`), for frames of 768 pixels. They begin as the identity,
so small with nano's weights is nano.

The encoder consists of convolutions, ReLU6, ReLU, additions and one nearest-neighbour upsampling: no normalization, no
erf, no attention. The decoder (`nano_decoder`) is SAM's, narrower, with prompts rasterized to maps as well. Why each
part differs from SAM: docs/decisions/0005-nano.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.conventions import FeatureMap

from .nano_decoder import NanoMaskDecoder, NanoPromptEncoder
from .sam import Sam

NANO_SIDE = 512  # the frame side that nano is trained for
SMALL_SIDE = 768  # and small
SEMANTIC_CHANNELS = 128  # embedding channels that the decoder's attention reads
DETAIL_CHANNELS = 128  # embedding channels that hold the packed detail
STEM = 32
FURTHER_EXPANSION = 4  # of the blocks that MobileNetV2 does not have
# MobileNetV2, table 2: expansion, channels, repeats, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Index of the last block at each stride, whose output is read.
LAST_OF_STRIDE = {4: 2, 8: 5, 16: 12, 32: 16}


class SameConv(nn.Conv2d):
    """A 3 x 3 convolution with TensorFlow's SAME padding: at stride 2 it pads one row below and one column right."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, 3, stride, padding=2 - stride, groups=groups)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`; H and W are even."""
        return super().forward(self.padded(input))

    def padded(self, x: Tensor) -> Tensor:
        """`x` with the padding of stride 2, which is not symmetric; at stride 1 `nn.Conv2d` pads."""
        return F.pad(x, (0, 1, 0, 1)) if self.stride[0] == 2 else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381, section 3.3): expand, depthwise 3 x 3, project without an activation.

    The input is added where its shape is that of the output.
    """

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * channels_in
        self.expand = nn.Conv2d(channels_in, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + out if self.residual else out


@dataclass(frozen=True)
class NanoConfig:
    """What an encoder has beyond nano's.

    Attributes:
        mixing: further blocks on the semantic channels, at stride 16.
        detail: further blocks at stride 8 and at stride 4 each, before the detail is packed. Each stride then also sees
            the coarser one, as in a feature pyramid (https://arxiv.org/abs/1612.03144). 0: the detail is that of
            MobileNetV2's blocks alone.
    """

    mixing: int = 0
    detail: int = 0


NANO = NanoConfig()
SMALL = NanoConfig(mixing=8, detail=2)


def further_blocks(channels: int, count: int) -> nn.Sequential:
    """Blocks that change nothing until they are trained: their last convolution is zero."""
    blocks = [InvertedResidual(channels, channels, FURTHER_EXPANSION, 1) for _ in range(count)]
    for block in blocks:
        _zero(block.project)
    return nn.Sequential(*blocks)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """`layer`, with weights and bias of zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Detail(nn.Module):
    """Features of strides 8 and 4 that know what the coarser strides know; untrained, it changes nothing."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.to_8 = _zero(nn.Conv2d(SEMANTIC_CHANNELS, 32, 1))
        self.to_4 = _zero(nn.Conv2d(32, 24, 1))
        self.at_8 = further_blocks(32, blocks)
        self.at_4 = further_blocks(24, blocks)

    def forward(self, at_4: Tensor, at_8: Tensor, at_16: Tensor) -> tuple[Tensor, Tensor]:
        """Map features `(B, 24, H/4, W/4)`, `(B, 32, H/8, W/8)`, `(B, 128, H/16, W/16)` to the first two's shapes."""
        at_8 = self.at_8(at_8 + F.interpolate(self.to_8(at_16), scale_factor=2.0, mode="nearest"))
        return self.at_4(at_4 + F.interpolate(self.to_4(at_8), scale_factor=2.0, mode="nearest")), at_8


class NanoImageEncoder(nn.Module):
    """Normalized photo `(B, 3, H, W)` to embedding `(B, 256, H/16, W/16)`: 128 semantic, then 128 detail channels.

    Attributes:
        any_side: true: nothing depends on the frame's side.
        further_outputs: none: `forward` returns the embedding alone.
    """

    any_side = True
    further_outputs: tuple[FeatureMap, ...] = ()

    def __init__(self, config: NanoConfig = NANO) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 2)
        blocks = []
        channels = STEM
        for expansion, width, repeats, first_stride in STAGES:
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, width, expansion, first_stride if index == 0 else 1))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.from_32 = nn.Conv2d(320, SEMANTIC_CHANNELS, 1)
        self.from_16 = nn.Conv2d(96, SEMANTIC_CHANNELS, 1)
        self.mix = nn.Conv2d(SEMANTIC_CHANNELS, SEMANTIC_CHANNELS, 3, padding=1)
        self.mixing = further_blocks(SEMANTIC_CHANNELS, config.mixing)
        self.detail = Detail(config.detail) if config.detail else None
        # The checkpoints' name for the convolution that gives the semantic channels.
        self.meaning = nn.Conv2d(SEMANTIC_CHANNELS, SEMANTIC_CHANNELS, 3, padding=1)
        self.pack_8 = nn.Conv2d(32, DETAIL_CHANNELS, 2, stride=2)
        self.pack_4 = nn.Conv2d(24, DETAIL_CHANNELS, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        """Encode photos whose sides are multiples of 32."""
        x = F.relu6(self.stem(x))
        outputs: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            outputs[index] = x
        at_4, at_8, at_16, at_32 = (outputs[LAST_OF_STRIDE[stride]] for stride in (4, 8, 16, 32))
        upsampled = F.interpolate(self.from_32(at_32), scale_factor=2.0, mode="nearest")
        mixed = F.relu(self.from_16(at_16) + upsampled)
        mixed = self.mixing(mixed + F.relu(self.mix(mixed)))
        if self.detail is not None:
            at_4, at_8 = self.detail(at_4, at_8, mixed)
        detail = F.relu(self.pack_4(at_4) + self.pack_8(at_8))
        return torch.cat([self.meaning(mixed), detail], dim=1)

    def set_input_side(self, side: int) -> None:
        """Do nothing: no part of this encoder depends on the frame's side."""


def build_nano() -> Sam:
    """An untrained nano, for frames of 512 pixels."""
    return _build(NANO, NANO_SIDE)


def build_small() -> Sam:
    """An untrained small, for frames of 768 pixels: nano with further blocks in the encoder."""
    return _build(SMALL, SMALL_SIDE)


def _build(config: NanoConfig, side: int) -> Sam:
    return Sam(
        NanoImageEncoder(config),
        channels=SEMANTIC_CHANNELS + DETAIL_CHANNELS,
        native_side=side,
        prompt_encoder=NanoPromptEncoder(SEMANTIC_CHANNELS, side),
        mask_decoder=NanoMaskDecoder(SEMANTIC_CHANNELS, DETAIL_CHANNELS),
    )
