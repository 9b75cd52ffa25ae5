"""EfficientViT-SAM's image encoder: convolutions, then linear attention at low resolution, and a neck that joins them.

Source: EfficientViT (https://arxiv.org/abs/2205.14756, section 3) and EfficientViT-SAM
(https://arxiv.org/abs/2402.05008, section 3.1; mit-han-lab/efficientvit, efficientvit/models). The neck resizes the
outputs of the last three stages to the embedding, bicubically, and adds them. All normalizations have an epsilon of
1e-6, and GELU is its tanh form. `weights.layouts` has the official names of the parameters.

The L models take photos at half of the frame's size: the embedding has a stride of 8 of their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE
from sam_edge_runtime.bundle.conventions import FeatureMap

from .layers import LayerNorm2d
from .tiny_vit import ConvNorm

EPS = 1e-6
DENOMINATOR_EPS = 1e-15
HEAD_DIM = 32
WIDENING = 4  # of the first block of a stage, beside that of the others
NECK_CHANNELS = 256
LATERALS = 3  # stages whose outputs the neck joins
FRAME_STEP = 64  # pixels of the frame that one cell of the coarsest stage covers


@dataclass(frozen=True)
class StageConfig:
    """A stage of the backbone, which halves the resolution.

    Attributes:
        width: its channels.
        depth: blocks behind the first.
        block: class of these blocks: `FusedConv`, `InvertedConv` or `AttentionBlock`.
        expansion: hidden channels of a block, divided by its channels.
        kernel: of the depthwise convolution that makes the second scale of attention.
    """

    width: int
    depth: int
    block: type[nn.Module]
    expansion: int
    kernel: int = 5


@dataclass(frozen=True)
class EfficientViTConfig:
    """An image encoder.

    Attributes:
        stem_blocks: residual blocks behind the first convolution.
        stages: of the backbone behind the stem.
        neck_depth: blocks of the neck.
        neck_expansion: of these blocks.
        image_stride: frame pixels per pixel of the photo that it takes.
    """

    stem_blocks: int
    stages: tuple[StageConfig, ...]
    neck_depth: int
    neck_expansion: int
    image_stride: int


def _act(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class StemBlock(nn.Module):
    """Two 3 x 3 convolutions beside the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, eps=EPS)
        self.conv2 = ConvNorm(channels, channels, 3, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = x + self.conv2(_act(self.conv1(x)))
        return out


class FusedConv(nn.Module):
    """A 3 x 3 convolution that widens, and a 1 x 1 convolution back; beside the input where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = stride == 1
        self.spatial_conv = ConvNorm(channels_in, channels_in * expansion, 3, stride, eps=EPS)
        self.point_conv = ConvNorm(channels_in * expansion, channels_out, 1, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        out: Tensor = self.point_conv(_act(self.spatial_conv(x)))
        return x + out if self.residual else out


class InvertedConv(nn.Module):
    """A 1 x 1 convolution that widens, a depthwise one, and one back; beside the input where the shape stays.

    The first two have a bias instead of a normalization.
    """

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.residual = stride == 1
        self.inverted_conv = ConvNorm(channels_in, hidden, 1, eps=None)
        self.depth_conv = ConvNorm(hidden, hidden, 3, stride, groups=hidden, eps=None)
        self.point_conv = ConvNorm(hidden, channels_out, 1, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        out: Tensor = self.point_conv(_act(self.depth_conv(_act(self.inverted_conv(x)))))
        return x + out if self.residual else out


class LinearAttention(nn.Module):
    """Attention with ReLU instead of softmax, whose cost is linear in the number of cells, at two scales.

    Keys times values are summed over all cells first. Queries, keys and values of the second scale are those of the
    first behind a depthwise convolution, and count as further heads.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        heads = channels // HEAD_DIM
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1, bias=False)
        self.aggregate = nn.Sequential(
            nn.Conv2d(3 * channels, 3 * channels, kernel, padding=kernel // 2, groups=3 * channels, bias=False),
            nn.Conv2d(3 * channels, 3 * channels, kernel_size=1, groups=3 * heads, bias=False),
        )
        self.proj = ConvNorm(2 * channels, channels, 1, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        b, _, h, w = x.shape
        qkv = self.qkv(x)
        scales = torch.cat([qkv, self.aggregate(qkv)], dim=1).reshape(b, -1, 3 * HEAD_DIM, h * w)
        q, k, v = scales.chunk(3, dim=2)  # (B, heads, D, HW) each: a head's queries, keys and values lie side by side
        q, k = q.relu(), k.relu() / (h * w)  # float16 holds means over the cells, and not sums
        weighted = (v @ k.mT) @ q  # (B, heads, D, HW)
        total = k.sum(dim=3, keepdim=True).mT @ q  # (B, heads, 1, HW)
        out: Tensor = self.proj((weighted / (total + DENOMINATOR_EPS)).reshape(b, -1, h, w))
        return out


class AttentionBlock(nn.Module):
    """Linear attention, then an inverted convolution, each beside its input."""

    def __init__(self, channels: int, expansion: int, kernel: int) -> None:
        super().__init__()
        self.context = LinearAttention(channels, kernel)
        self.local = InvertedConv(channels, channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = self.local(x + self.context(x))
        return out


def _make_stage(channels: int, config: StageConfig) -> nn.ModuleList:
    first = FusedConv if config.block is FusedConv else InvertedConv
    blocks: list[nn.Module] = [first(channels, config.width, WIDENING * config.expansion, stride=2)]
    for _ in range(config.depth):
        if config.block is AttentionBlock:
            blocks.append(AttentionBlock(config.width, config.expansion, config.kernel))
        else:
            blocks.append(first(config.width, config.width, config.expansion))
    return nn.ModuleList(blocks)


class Upsample(nn.Module):
    """A bicubic resize by a whole factor, as torch's `interpolate`; exports replace it (`lean.positions`).

    Attributes:
        factor: output cells per input cell along each axis.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H*factor, W*factor)`."""
        if self.factor == 1:
            return x
        size = (x.shape[2] * self.factor, x.shape[3] * self.factor)
        return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


class Lateral(nn.Module):
    """Brings one stage's output to the neck's channels and to the embedding's resolution."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, NECK_CHANNELS, 1, eps=EPS)
        self.upsample = Upsample(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, H, W)` to `(B, 256, H*factor, W*factor)`."""
        out: Tensor = self.upsample(self.conv(x))
        return out


class EfficientViTEncoder(nn.Module):
    """Normalized photo to embedding `(B, 256, H/16, W/16)`, H and W the frame's.

    The photo is `(B, 3, H, W)`, or half as large in the L models.

    Attributes:
        any_side: true: nothing depends on the frame's side.
        further_outputs: empty: it returns the embedding alone.
        frame_step: both sides of a frame are multiples of it.
    """

    any_side = True
    further_outputs: tuple[FeatureMap, ...] = ()
    frame_step = FRAME_STEP

    def __init__(self, config: EfficientViTConfig, stem_channels: int = 32) -> None:
        super().__init__()
        stem = nn.ModuleList([ConvNorm(3, stem_channels, 3, 2, eps=EPS)])
        stem.extend(StemBlock(stem_channels) for _ in range(config.stem_blocks))
        widths = [stem_channels, *(stage.width for stage in config.stages)]
        stages = (_make_stage(width, stage) for width, stage in zip(widths, config.stages, strict=False))
        self.stages = nn.ModuleList([stem, *stages])  # each a list of blocks
        coarsest = config.image_stride * 2 ** len(widths) // EMBEDDING_STRIDE  # embedding cells per cell of the last
        self.laterals = nn.ModuleList(
            Lateral(widths[-1 - place], coarsest // 2**place) for place in range(LATERALS)
        )  # the coarsest first
        self.neck = nn.ModuleList(
            FusedConv(NECK_CHANNELS, NECK_CHANNELS, config.neck_expansion) for _ in range(config.neck_depth)
        )
        self.head = nn.Conv2d(NECK_CHANNELS, NECK_CHANNELS, kernel_size=1)
        self.norm = LayerNorm2d(NECK_CHANNELS, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Encode photos; both sides of the frame are multiples of 64."""
        out: Tensor = self.norm(self.head(self.join(self.stage_outputs(x))))
        return out

    def stage_outputs(self, x: Tensor) -> list[Tensor]:
        """The outputs of the stem and of each stage: strides 2, 4, 8, ... of the photo's pixels."""
        outputs = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList
                x = _act(block(x)) if isinstance(block, ConvNorm) else block(x)  # the first has no block of its own
            outputs.append(x)
        return outputs

    def join(self, outputs: list[Tensor]) -> Tensor:
        """The neck: the last three of `outputs` at the embedding's resolution, added and mixed; `(B, 256, h, w)`."""
        maps: list[Tensor] = [lateral(outputs[-1 - place]) for place, lateral in enumerate(self.laterals)]
        x = maps[0]
        for each in maps[1:]:
            x = x + each
        for block in self.neck:
            x = block(x)
        return x

    def set_input_side(self, side: int) -> None:
        """Do nothing: no parameter depends on the frame's side."""


def _large(depths: tuple[int, int, int, int], neck_depth: int) -> EfficientViTConfig:
    """An L model: efficientvit/models/efficientvit/backbone.py, `EfficientViTLargeBackbone`, and sam.py."""
    stages = (
        StageConfig(64, depths[0], FusedConv, 4),
        StageConfig(128, depths[1], FusedConv, 4),
        StageConfig(256, depths[2], InvertedConv, 4),
        StageConfig(512, depths[3], AttentionBlock, 6),
    )
    return EfficientViTConfig(1, stages, neck_depth, neck_expansion=1, image_stride=2)


def _extra_large(stem_blocks: int, depths: tuple[int, int, int, int, int], neck_depth: int) -> EfficientViTConfig:
    """An XL model: sam.py, `efficientvit_sam_xl0` and `_xl1`."""
    stages = (
        StageConfig(64, depths[0], FusedConv, 4),
        StageConfig(128, depths[1], FusedConv, 4),
        StageConfig(256, depths[2], FusedConv, 4),
        StageConfig(512, depths[3], AttentionBlock, 4, kernel=3),
        StageConfig(1024, depths[4], AttentionBlock, 6, kernel=3),
    )
    return EfficientViTConfig(stem_blocks, stages, neck_depth, neck_expansion=4, image_stride=1)


L0 = _large((1, 1, 4, 4), 4)
L1 = _large((1, 1, 6, 6), 8)
L2 = _large((2, 2, 8, 8), 12)
XL0 = _extra_large(0, (1, 1, 2, 3, 3), 6)
XL1 = _extra_large(1, (2, 2, 4, 6, 6), 12)
